# Four bottlenecks of 64 channels (16 inside) at stride 1 after a 3x3 stem: a receptive field of
# 11 x 11 pixels without global context. The head is one 1x1 convolution.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=False,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=dict(
        type='mmsb.SBResNet_CIFAR',
        depth=38,  # only the first stage, four blocks, is built
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        spatial_bias=None,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=0,
        channels=64,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        num_classes=3,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

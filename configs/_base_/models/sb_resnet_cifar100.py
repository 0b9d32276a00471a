# The paper's ResNets for CIFAR-100; the default is ResNet-65 with spatial bias in stages 1 and 2.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=100,
        # from CutMix-PyTorch (Yun et al., 2019), which the paper cites for its recipe
        mean=[125.3, 123.0, 113.9],
        std=[63.0, 62.1, 66.7],
        to_rgb=False,  # the files store RGB
    ),
    backbone=dict(type='mmsb.SBResNet_CIFAR', depth=65, out_indices=(2,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)

# What mmseg's segmentors with auxiliary head share: a deep stem (its ResNetV1c), and both heads'
# losses.
_base_ = './r50_segmentor.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        deep_stem=True,
        norm_eval=False,
        contract_dilation=True,
        init_cfg=dict(checkpoint='open-mmlab://resnet50_v1c'),
    ),
    decode_head=dict(
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
)

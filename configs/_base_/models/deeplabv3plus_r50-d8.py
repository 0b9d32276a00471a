# DeepLabV3+ with the toolbox's ResNet-50 at output stride 8, as in mmseg.
_base_ = './r50_v1c_two_heads.py'

model = dict(
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=2048,
        in_index=3,
        dilations=(1, 12, 24, 36),
        c1_in_channels=256,
        c1_channels=48,
    ),
)

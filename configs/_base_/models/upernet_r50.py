# UPerNet with the toolbox's ResNet-50, as in mmseg.
_base_ = './r50_v1c_two_heads.py'

model = dict(
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
    decode_head=dict(
        type='UPerHead',
        in_channels=[256, 512, 1024, 2048],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
    ),
)

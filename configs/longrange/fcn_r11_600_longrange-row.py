# The baseline of the stage ablation (as Table 1): three stages of one bottleneck with 32, 64 and
# 128 channels, all at stride 1. The receptive field is 9 x 9 pixels. Task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        depth=11,
        base_channels=8,
        num_stages=3,
        strides=(1, 1, 1),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    decode_head=dict(in_channels=128, channels=128),
)

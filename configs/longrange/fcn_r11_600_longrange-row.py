# The baseline of the ablation of stages (as Table 1): three stages of one bottleneck, all at stride
# 1, of 32, 64 and 128 channels; a receptive field of 9 x 9 pixels. Task 'row'.
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

# The baseline of sb_regnet_mini_in1k.py: the same recipe, mmpretrain's own RegNetX with ten blocks.
_base_ = './resnet18_mini_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='RegNet',
        arch=dict(w0=24, wa=24.5, wm=2.4, group_w=8, depth=10, bot_mul=1.0),
    ),
    head=dict(in_channels=328),
)

# Coordinate attention, 16 hidden channels, before the shortcut of every block; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='mmsb.CoordinateAttention', ratio=4), position='after_conv3')],
    ),
)

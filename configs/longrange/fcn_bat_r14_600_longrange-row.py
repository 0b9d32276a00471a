# BAT blocks after blocks 2 and 4; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='mmsb.BATBlock'), blocks=(1, 3), position='after_block')]
    ),
)

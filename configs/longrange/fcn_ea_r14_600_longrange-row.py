# Efficient attention over all pixels after blocks 2 and 4, as NL; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=dict(type='mmsb.EfficientAttention'), blocks=(1, 3), position='after_block')
        ],
    ),
)

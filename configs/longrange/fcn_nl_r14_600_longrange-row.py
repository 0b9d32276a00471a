# Non-local blocks after blocks 2 and 4, on a grid of 16 x 16 (Reduced NL). Over all 4096
# pixels each block would take 5 seconds per iteration on a CPU. Task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='mmsb.NonLocalBlock', size=16), blocks=(1, 3), position='after_block'
            )
        ]
    ),
)

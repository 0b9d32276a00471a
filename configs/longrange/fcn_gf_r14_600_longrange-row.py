# Global filters after the 3x3 convolutions of blocks 2 and 4, with a factor for each frequency of
# the 64 x 64 map: 67,584 per block, about as many parameters as spatial bias has. Task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(cfg=dict(type='mmsb.GlobalFilter', size=64), blocks=(1, 3), position='after_conv2')
        ],
    ),
)

# ContMix, kernels of 5 x 5 pixels from 7 x 7 regions, after the 3x3 convolutions of blocks 2 and 4.
# With 7 x 7 pixels or in every block, training on a CPU takes longer than five minutes. Task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='mmsb.ContextMixing', kernel_size=5),
                blocks=(1, 3),
                position='after_conv2',
            )
        ],
    ),
)

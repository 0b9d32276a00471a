# Large-kernel blocks, 31 x 31 pixels in 8 channels, after every block: four of them reach across
# the image. With more channels, training on a CPU takes longer than five minutes. Task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[
            dict(
                cfg=dict(type='mmsb.LargeKernelBlock', kernel_size=31, reduction=8),
                position='after_block',
            )
        ],
    ),
)

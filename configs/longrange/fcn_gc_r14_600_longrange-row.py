# Global context, 16 channels in its bottleneck, before the shortcut of every block; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(
        plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv3')]
    ),
)

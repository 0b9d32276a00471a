# Squeeze-and-excitation before the shortcut of every block; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(plugins=[dict(cfg=dict(type='mmsb.SqueezeExcitation'), position='after_conv3')]),
)

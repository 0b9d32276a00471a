# Squeeze-and-excitation before the shortcut of every block (paper, Table 8).
plugins = [dict(cfg=dict(type='mmsb.SqueezeExcitation'), position='after_conv3')]

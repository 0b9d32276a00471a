# Style-based recalibration before the shortcut of every block (paper, Table 8).
plugins = [dict(cfg=dict(type='mmsb.StyleRecalibration'), position='after_conv3')]

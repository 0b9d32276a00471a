# Gather-excite (theta, global) before the shortcut of every block (paper, Table 8). Its extent is
# the size of the feature map in each stage for 224x224 images.
plugins = [
    dict(
        cfg=dict(type='mmsb.GatherExcite', extent=56),
        stages=(True, False, False, False),
        position='after_conv3',
    ),
    dict(
        cfg=dict(type='mmsb.GatherExcite', extent=28),
        stages=(False, True, False, False),
        position='after_conv3',
    ),
    dict(
        cfg=dict(type='mmsb.GatherExcite', extent=14),
        stages=(False, False, True, False),
        position='after_conv3',
    ),
    dict(
        cfg=dict(type='mmsb.GatherExcite', extent=7),
        stages=(False, False, False, True),
        position='after_conv3',
    ),
]

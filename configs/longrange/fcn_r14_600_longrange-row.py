# The baseline without global context: task 'row' of mmsb/datasets/longrange.py.
_base_ = [
    '../_base_/models/fcn_r14.py',
    '../_base_/datasets/longrange.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/runtimes/segmentation.py',
]

default_hooks = dict(checkpoint=dict(interval=600))
custom_hooks = [dict(type='mmsb.ChannelsLastHook')]

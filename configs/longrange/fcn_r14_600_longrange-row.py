# The baseline without global context: task 'row' of mmsb/studies/longrange/dataset.py.
_base_ = [
    '../_base_/models/fcn_r14.py',
    '../_base_/datasets/longrange.py',
    '../_base_/schedules/adamw_600.py',
    '../_base_/runtimes/segmentation.py',
]

default_hooks = dict(
    logger=dict(interval=10),  # every image is new, so the log shows generalisation
    # weights only, at the end: a training of minutes starts again if it was stopped
    checkpoint=dict(interval=600, save_optimizer=False, save_param_scheduler=False),
)
custom_hooks = [dict(type='mmsb.ChannelsLastHook')]

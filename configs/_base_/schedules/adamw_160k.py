# 160k iterations with a warm-up, for an AdamW of configs/_base_/starts: the schedule of mmseg's
# UPerNets that train with AdamW (Swin, ConvNeXt). The SGD schedule ends at 1e-4, too high here.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

# 600 iterations, AdamW, one cycle up to 3e-3.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01),
)
param_scheduler = dict(type='OneCycleLR', eta_max=3e-3, total_steps=600, by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)

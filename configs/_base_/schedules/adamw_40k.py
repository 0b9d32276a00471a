# 40k iterations, AdamW 2e-4 for a batch of 28, poly (paper, section 4.6). The paper leaves the
# rest open; from the Semantic FPN of PVT and PoolFormer, which use this recipe: power 0.9 to 0,
# no warm-up, no clipping. mmseg's schedule_40k ends at 1e-4, half of this learning rate.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4),
)
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=28)

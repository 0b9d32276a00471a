# RTMDet's 300 epochs, AdamW 4e-3 for a batch of 256 (8 GPUs x 32), as in mmdet. The config adds
# hooks that keep a moving average of the weights and end mosaic and mixup 20 epochs early.
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=300, val_interval=10, dynamic_intervals=[(280, 1)]
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.004, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.004 * 0.05,
        begin=150,
        end=300,
        T_max=150,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# mmdet's own base is 16, from its 1x schedule: its --auto-scale-lr multiplies this rate by 16
auto_scale_lr = dict(enable=False, base_batch_size=256)

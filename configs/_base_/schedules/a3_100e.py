# The paper's first ImageNet recipe, "of Wightman et al.": 160 px, batch 512, 100 epochs, LAMB 8e-3,
# cosine. The paper leaves the rest open; from RSB-A3 of that reference: weight decay 0.02 (not on
# norms and biases), 5 warm-up epochs, RandAugment 6/0.5, Mixup 0.1, CutMix 1.0, BCE loss. A3 uses
# batch 2048 with this learning rate. The paper says 512, which may have been per GPU.
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Lamb', lr=8e-3, weight_decay=0.02),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=95,
        eta_min=1e-6,
        by_epoch=True,
        begin=5,
        end=100,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=512)

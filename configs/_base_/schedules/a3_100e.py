# The paper's first ImageNet recipe, "of Wightman et al.": 160 px, batch 512, 100 epochs, LAMB 8e-3,
# cosine. Open in the paper, taken from RSB-A3 of that reference: weight decay 0.02 (not on norms
# and biases), 5 epochs of warm-up, RandAugment 6/0.5, Mixup 0.1, CutMix 1.0, binary cross-entropy.
# A3's batch for this learning rate is 2048: 512 may have been per GPU, but 512 is what it says.
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

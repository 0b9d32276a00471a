# The paper's second ImageNet recipe: SGD 0.1 for a batch of 256, x 0.1 after 30, 60 and 80 epochs.
# The paper leaves the rest open; from Chi et al. (2020), which it follows: 90 epochs, momentum 0.9,
# weight decay 1e-4, 5 epochs of linear warm-up from 0.
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 80], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=256)

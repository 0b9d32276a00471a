# CIFAR-100: 300 epochs, batch 64, SGD 0.25 (paper, section 4.1: "with reference to Yun et al.").
# Open in the paper, chosen here: that reference's Nesterov momentum 0.9 and weight decay 1e-4, and
# no CutMix (off unless asked for there). It decays at 150 and 225 only; the paper's "after each 75
# epochs" is taken at its word. Best or last epoch: the last; the reference reports the best, which
# tools/train_seeds.py prints beside it.
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.25, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[75, 150, 225], gamma=0.1)
auto_scale_lr = dict(enable=False, base_batch_size=64)

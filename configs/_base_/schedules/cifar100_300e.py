# CIFAR-100: 300 epochs, batch 64, SGD 0.25 (paper, section 4.1: "with reference to Yun et al.").
# The paper leaves the rest open. From that reference: Nesterov momentum 0.9, weight decay 1e-4 and
# no CutMix, its default. It decays only at 150 and 225; here the rate decays "after each 75
# epochs" as the paper says. Results are from the last epoch; the reference reports the best epoch,
# which tools/train_seeds.py prints as well.
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.25, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[75, 150, 225], gamma=0.1)
auto_scale_lr = dict(enable=False, base_batch_size=64)

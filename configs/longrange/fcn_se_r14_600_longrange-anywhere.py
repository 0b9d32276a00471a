# fcn_se_r14_600_longrange-row.py on task 'anywhere'.
_base_ = './fcn_se_r14_600_longrange-row.py'

train_dataloader = dict(dataset=dict(task='anywhere'))
val_dataloader = dict(dataset=dict(task='anywhere'))
test_dataloader = val_dataloader

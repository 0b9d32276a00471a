# fcn_se_r14_600_longrange-row.py on task 'order'.
_base_ = './fcn_se_r14_600_longrange-row.py'

train_dataloader = dict(dataset=dict(task='order'))
val_dataloader = dict(dataset=dict(task='order'))
test_dataloader = val_dataloader

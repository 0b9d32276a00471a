# fcn_lk_r14_600_longrange-row.py on task 'any'.
_base_ = './fcn_lk_r14_600_longrange-row.py'

train_dataloader = dict(dataset=dict(task='any'))
val_dataloader = dict(dataset=dict(task='any'))
test_dataloader = val_dataloader

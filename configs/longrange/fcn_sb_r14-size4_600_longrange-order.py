# fcn_sb_r14-size4_600_longrange-row.py on task 'order'.
_base_ = './fcn_sb_r14-size4_600_longrange-row.py'

train_dataloader = dict(dataset=dict(task='order'))
val_dataloader = dict(dataset=dict(task='order'))
test_dataloader = val_dataloader

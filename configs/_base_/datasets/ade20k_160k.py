# ADE20K at 512x512 for mmseg's recipes of 160k iterations: 16 images, test sizes not rounded.
_base_ = './ade20k.py'

train_dataloader = dict(batch_size=4)  # x 4 GPUs
test_pipeline = [step for step in _base_.test_pipeline if step.type != 'ResizeToMultiple']
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# ResNet-50 of "ResNet strikes back" (procedure A1, 80.1 top-1) and AdamW, as in mmdet's
# configs/resnet_strikes_back. The learning rate is for 16 images.
weights = dict(
    type='Pretrained',
    prefix='backbone.',
    checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth',
)
adamw = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0002, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bypass_duplicate=True),
)

# torchvision's second ResNet-50 (IMAGENET1K_V2, 80.9 top-1) and AdamW, as in mmdet's "tnr-pre"
# config. The learning rate is for 16 images.
weights = dict(
    type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-11ad3fa6.pth'
)
adamw = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, bypass_duplicate=True),
)

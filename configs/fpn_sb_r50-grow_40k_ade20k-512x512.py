# From plain ResNet-50 weights, grown on loading, whatever the config below starts from.
_base_ = './fpn_sb_r50_40k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50')
    )
)

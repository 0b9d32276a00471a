# Semantic FPN with SB-ResNet-50 on ADE20K (paper, section 4.6; 2 GPUs x 14).
_base_ = './fpn_r50_40k_ade20k-512x512.py'

# Plain ResNet-50 weights are grown on loading. With an SB-ResNet-50 of your own, this line instead:
#   init_cfg=dict(type='Pretrained', checkpoint='YOUR.pth', prefix='backbone.')
model = dict(
    backbone=dict(
        type='mmsb.SBResNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)

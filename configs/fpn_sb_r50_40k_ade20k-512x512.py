# Semantic FPN with SB-ResNet-50 on ADE20K (paper, section 4.6; 2 GPUs x 14).
_base_ = './fpn_r50_40k_ade20k-512x512.py'

# Plain ResNet-50 weights are grown on loading. To load your own SB-ResNet-50, use instead:
#   init_cfg=dict(type='Pretrained', checkpoint='YOUR.pth', prefix='backbone.')
model = dict(
    backbone=dict(
        type='mmsb.SBResNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)

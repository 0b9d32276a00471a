# Cascade R-CNN + FPN with SB-ResNet-50, 1x on COCO (paper, section 4.5; 2 GPUs x 8).
_base_ = './cascade_rcnn_r50_fpn_1x_coco.py'

# Plain ResNet-50 weights are grown on loading (the -s23 config then costs less). To load your own
# SB-ResNet-50, use instead:
#   init_cfg=dict(type='Pretrained', checkpoint='YOUR.pth', prefix='backbone.')
model = dict(
    backbone=dict(
        type='mmsb.SBResNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)

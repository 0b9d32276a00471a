# Faster R-CNN + FPN with SB-ResNet-50, 1x on COCO (paper, section 4.5; 2 GPUs x 8).
_base_ = './faster_rcnn_r50_fpn_1x_coco.py'

# Nobody has published SB weights. Plain ResNet-50 weights are grown on loading: the network starts
# as the plain one, and its spatial bias, being new, learns in the frozen stage and under norm_eval
# too. With an SB-ResNet-50 of your own (from ImageNet, say), this line instead; all of the stage is
# frozen then:
#   init_cfg=dict(type='Pretrained', checkpoint='YOUR.pth', prefix='backbone.')
model = dict(
    backbone=dict(
        type='mmsb.SBResNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)

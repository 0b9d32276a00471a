# Faster R-CNN + FPN with SB-ResNet-50, 1x on COCO (paper, section 4.5; 2 GPUs x 8).
_base_ = './faster_rcnn_r50_fpn_1x_coco.py'

# No SB weights are published. Plain ResNet-50 weights are grown on loading: the network starts
# equal to the plain one. Its new spatial bias also trains in the frozen stage, which takes time
# and memory (the -s23 config does not), and under norm_eval.
# To load your own SB-ResNet-50 (e.g. from ImageNet), use the line below instead. The frozen stage
# then includes spatial bias:
#   init_cfg=dict(type='Pretrained', checkpoint='YOUR.pth', prefix='backbone.')
model = dict(
    backbone=dict(
        type='mmsb.SBResNet',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)

# From plain ResNet-50 weights, grown on loading, whatever the config below starts from.
_base_ = './cascade_rcnn_sb_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50')
    )
)

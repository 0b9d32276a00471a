# The baseline of faster_rcnn_sb_x50-32x4d_fpn_1x_coco.py: mmdet's own ResNeXt-50 32x4d.
_base_ = './faster_rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        groups=32,
        base_width=4,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnext50_32x4d'),
    )
)

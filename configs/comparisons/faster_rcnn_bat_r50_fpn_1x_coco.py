# Faster R-CNN + FPN, ResNet-50 with BAT blocks.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/bat.py']

# Grown from plain weights, a BAT block has no start that changes nothing and learns (see
# docs/comparisons.md): use weights from this backbone's own pretraining.
checkpoint = 'work_dirs/bat_resnet50_step-90e_in1k/epoch_90.pth'
model = dict(
    backbone=dict(
        spatial_bias=None,
        plugins=_base_.plugins,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    )
)

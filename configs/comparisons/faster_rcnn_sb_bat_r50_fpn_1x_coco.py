# Faster R-CNN + FPN, ResNet-50 with BAT blocks and spatial bias.
_base_ = ['../faster_rcnn_sb_r50_fpn_1x_coco.py', '../_base_/plugins/bat.py']

# Grown from plain weights, a BAT block has no start that changes nothing and learns (see
# docs/comparisons.md): use weights from this backbone's own pretraining.
checkpoint = 'work_dirs/sb_bat_resnet50_step-90e_in1k/epoch_90.pth'
model = dict(
    backbone=dict(
        plugins=_base_.plugins,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    )
)

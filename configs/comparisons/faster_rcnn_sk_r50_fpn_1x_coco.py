# Faster R-CNN + FPN, ResNet-50 with selective kernels.
_base_ = '../faster_rcnn_sb_r50_fpn_1x_coco.py'

# Plain ResNet weights do not fit: use weights from this backbone's own pretraining.
checkpoint = 'work_dirs/sk_resnet50_step-90e_in1k/epoch_90.pth'
model = dict(
    backbone=dict(
        type='mmsb.SKNet',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    )
)

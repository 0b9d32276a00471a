# Semantic FPN, ResNet-50 with selective kernels and spatial bias.
_base_ = '../fpn_sb_r50_40k_ade20k-512x512.py'

# Plain ResNet weights do not fit: use weights from this backbone's own pretraining.
checkpoint = 'work_dirs/sb_sk_resnet50_step-90e_in1k/epoch_90.pth'
model = dict(
    backbone=dict(
        type='mmsb.SBSKNet',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    )
)

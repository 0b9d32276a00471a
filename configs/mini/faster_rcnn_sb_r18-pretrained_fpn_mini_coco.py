# The backbone is that of sb_resnet18_mini_in1k.py. Set its checkpoint with MMSB_SB_RESNET18=PATH.
_base_ = './faster_rcnn_sb_r18_fpn_mini_coco.py'

checkpoint = '{{$MMSB_SB_RESNET18:work_dirs/sb_resnet18_mini_in1k/epoch_12.pth}}'
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    )
)

# The backbone is the plain ResNet of resnet18_mini_in1k.py, grown on loading. Set its checkpoint
# with MMSB_RESNET18=PATH.
_base_ = './faster_rcnn_sb_r18_fpn_mini_coco.py'

checkpoint = '{{$MMSB_RESNET18:work_dirs/resnet18_mini_in1k/epoch_12.pth}}'
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    )
)

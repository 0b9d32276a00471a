# The backbone from resnet18_mini_in1k.py, a plain ResNet, grown on loading; MMSB_RESNET18=PATH says
# where its checkpoint is.
_base_ = './fpn_sb_r18_mini_ade20k.py'

checkpoint = '{{$MMSB_RESNET18:work_dirs/resnet18_mini_in1k/epoch_12.pth}}'
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    )
)

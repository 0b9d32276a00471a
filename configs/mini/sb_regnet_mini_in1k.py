# A small RegNetX with spatial bias in the paper's stages, on the synthetic miniature ImageNet.
_base_ = './regnet_mini_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmsb.with_spatial_bias',
        backbone=_base_.model.backbone,
        where=('layer1', 'layer2', 'layer3'),
    ),
)

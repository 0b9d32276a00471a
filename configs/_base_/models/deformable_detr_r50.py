# Deformable DETR with the toolbox's ResNet-50, as in mmdet.
_base_ = './detr_r50.py'

attention = dict(embed_dims=256, batch_first=True)
ffn = dict(embed_dims=256, feedforward_channels=1024, ffn_drop=0.1)
model = dict(
    type='DeformableDETR',
    num_queries=300,
    num_feature_levels=4,
    with_box_refine=False,
    as_two_stage=False,
    encoder=dict(num_layers=6, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=6,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.1, batch_first=True),
            cross_attn_cfg=attention,
            ffn_cfg=ffn,
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=128, normalize=True, offset=-0.5),
    bbox_head=dict(type='DeformableDETRHead'),
    test_cfg=dict(max_per_img=100),
)

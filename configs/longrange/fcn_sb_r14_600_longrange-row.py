# Spatial bias in every block, grid and maps as in the paper's ResNet-50; task 'row'.
_base_ = './fcn_r14_600_longrange-row.py'

model = dict(
    backbone=dict(spatial_bias=dict(_delete_=True, stages=(True,), num_channels=3, size=10)),
)

# Spatial bias in stage 1 (as Table 1); task 'row'.
_base_ = './fcn_r11_600_longrange-row.py'

model = dict(
    backbone=dict(
        spatial_bias=dict(_delete_=True, stages=(True, False, False), num_channels=3, size=10),
    ),
)

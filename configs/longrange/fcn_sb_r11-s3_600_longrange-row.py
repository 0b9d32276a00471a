# Spatial bias in stage 3 (as Table 1); task 'row'.
_base_ = './fcn_r11_600_longrange-row.py'

model = dict(
    backbone=dict(
        spatial_bias=dict(_delete_=True, stages=(False, False, True), num_channels=3, size=10),
    ),
)

# Spatial bias in stages 1, 2 and 3 (as Table 1); task 'row'.
_base_ = './fcn_r11_600_longrange-row.py'

model = dict(
    backbone=dict(
        spatial_bias=dict(_delete_=True, stages=(True, True, True), num_channels=3, size=10),
    ),
)

# Global context before the shortcut of every block of the last three stages (paper, Table 9), as in
# mmdet's configs/gcnet, "r16 (c3-c5)".
plugins = [
    dict(
        cfg=dict(type='ContextBlock', ratio=1 / 16),
        stages=(False, True, True, True),
        position='after_conv3',
    )
]

# Non-local blocks on a 10 x 10 grid in five places (paper, Table 10): after blocks 2 and 4 of the
# second stage, and 2, 4 and 6 of the third, counted from 1 (`blocks` counts from 0).
plugins = [
    dict(
        cfg=dict(type='mmsb.NonLocalBlock', size=10),
        stages=(False, True, False, False),
        blocks=(1, 3),
        position='after_block',
    ),
    dict(
        cfg=dict(type='mmsb.NonLocalBlock', size=10),
        stages=(False, False, True, False),
        blocks=(1, 3, 5),
        position='after_block',
    ),
]

# The synthetic long-range tasks; images are rendered on the fly, no files are read.
task = 'row'
meta_keys = ('img_id', 'img_shape', 'ori_shape', 'pad_shape', 'key_distance', 'keys_at_edge')
train_pipeline = [dict(type='PackSegInputs', meta_keys=meta_keys)]
test_pipeline = train_pipeline

train_dataloader = dict(
    batch_size=16,
    num_workers=0,  # rendering an image takes less than a millisecond
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmsb.LongRange', task=task, num_images=9600, seed=0, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmsb.LongRange',
        task=task,
        num_images=960,
        seed=1,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='mmsb.DistanceAccuracy')
test_evaluator = val_evaluator

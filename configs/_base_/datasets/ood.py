# Trained on ImageNet at 224 and tested on the 17 data sets of model-vs-human (Geirhos et al. 2021;
# the paper's Table 11). MMSB_OOD_ROOT=PATH points it at another folder that holds datasets/ and
# raw-data/, such as a checkout of model-vs-human.
_base_ = './imagenet_step.py'

ood_root = '{{$MMSB_OOD_ROOT:data/ood}}'

# the images are 224 x 224; the benchmark neither resizes nor crops them
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'ood')),
]
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmsb.OODDataset',
        data_root=ood_root,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(_delete_=True, type='mmsb.OODMetric', humans=ood_root + '/raw-data')

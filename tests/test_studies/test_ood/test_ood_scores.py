"""The numbers of the model-vs-human benchmark: by hand, and beside scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from mmsb.studies.ood.scores import (
    CATEGORIES,
    CONDITIONS,
    DATASETS,
    Responses,
    average,
    condition_key,
    decide,
    error_consistency,
    image_id,
    observed_consistency,
    score,
    shape_bias,
)
from tests.conftest import assert_one_line


def responses(rows):
    """Of rows of condition, image, category, response."""
    return Responses(*zip(*rows, strict=True))


def sketches(*rights):
    """To one sketch each: right, or missing."""
    return responses([('0', f'{i}.png', 'cat', 'cat' if r else 'na') for i, r in enumerate(rights)])


def test_error_consistency_is_cohens_kappa():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = rng.integers(2, 40)
        a, b = rng.random((2, size)) < rng.random((2, 1))
        assert observed_consistency(a, b) == pytest.approx(accuracy_score(a, b))
        if (a == b).all():
            assert error_consistency(a, b) == 1
        else:
            assert error_consistency(a, b) == pytest.approx(cohen_kappa_score(a, b))


def test_consistency_by_hand():
    a, b = np.array([1, 1, 1, 0], bool), np.array([1, 1, 0, 1], bool)
    assert observed_consistency(a, b) == 0.5
    # both are right 3 of 4 times: 0.75^2 + 0.25^2 = 0.625 are expected to agree
    assert error_consistency(a, b) == pytest.approx((0.5 - 0.625) / (1 - 0.625))
    assert error_consistency(a, ~a) == pytest.approx((0 - 0.375) / (1 - 0.375))


@pytest.mark.parametrize('rights', [[True, True], [False, False], [True, False]])
def test_a_perfect_match(rights):
    assert observed_consistency(rights, rights) == error_consistency(rights, rights) == 1


def test_decision_is_by_the_mean_of_a_categorys_classes():
    scores = np.zeros((4, 1000))
    scores[0, 281] = 0.5  # one of six cats: a mean of 0.083
    scores[0, 499] = 0.1  # the only knife
    scores[1, [385, 386]] = 0.2, 0.3  # elephants: a mean of 0.25
    scores[1, [294, 295, 296]] = 0.24, 0.24, 0.02  # 3 of 4 bears: 0.125
    scores[2, 0] = 1  # a class of no category: all are equal, of which the last is taken
    scores[3, [404, 766]] = 0.5  # airplane and oven are equal
    assert decide(scores).tolist() == ['knife', 'elephant', 'truck', 'oven']
    assert decide(scores.astype(np.float32)).tolist() == decide(scores).tolist()


def test_decision_needs_imagenets_classes():
    assert_one_line(lambda: decide(np.ones((2, 36))), '1000 classes, but the model has 36')


def test_categories_are_of_imagenets_classes():
    classes = pytest.importorskip('mmpretrain.datasets.categories').IMAGENET_CATEGORIES
    words = dict(bear='bear', elephant='elephant', clock='clock', keyboard='keyboard')
    for category, word in words.items():
        assert all(word in classes[i].lower() for i in CATEGORIES[category]), category
    assert [classes[i] for name in ('airplane', 'knife', 'oven') for i in CATEGORIES[name]] == [
        'airliner',
        'cleaver, meat cleaver, chopper',
        'rotisserie',
    ]
    cats, dogs = (' '.join(classes[i] for i in CATEGORIES[name]) for name in ('cat', 'dog'))
    assert 'Siamese cat' in cats and 'golden retriever' in dogs and 'timber wolf' not in dogs
    numbers = [i for found in CATEGORIES.values() for i in found]
    assert len(numbers) == len(set(numbers)) and {*numbers} < {*range(1000)}
    assert len(CATEGORIES) == 16 and list(CATEGORIES) == sorted(CATEGORIES)
    assert len(DATASETS) == len({*DATASETS}) == 17 and {*CONDITIONS} < {*DATASETS}


def test_images_are_named_without_trial_and_observer():
    assert image_id('0000_cl_s01_bw_boat_40_n02951358_5952.JPEG') == 'n02951358_5952.JPEG'
    assert image_id('0007_ske_s01_0_cat_00_cat-0279-sketch-30.png') == 'cat-0279-sketch-30.png'
    assert image_id('0001_cc_s01_0_boat_00_boat1-bear2.png') == image_id('boat1-bear2.png')


def test_conditions_are_equal_however_spelt():
    for one, other in (('True', 'true'), ('3.0', '3'), ('0.10', '0.1'), ('inf', 'Inf')):
        assert condition_key(one) == condition_key(other)
    assert condition_key('2-10-10') != condition_key('2-3-10')
    assert condition_key('0') != condition_key('pow')


def test_one_condition_by_hand():
    observers = {
        'model': sketches(1, 1, 0, 0),
        'subject-01': sketches(1, 0, 0, 1),
        'subject-02': sketches(1, 1, 1, 1),
    }
    found = score('sketch', observers)['model']
    assert found['ood_accuracy'] == 0.5
    assert found['accuracy_difference'] == pytest.approx((0 + 0.25) / 2)
    assert found['observed_consistency'] == pytest.approx((0.5 + 0.5) / 2)
    # beside the second: expected 0.5, observed 0.5
    assert found['error_consistency'] == pytest.approx(0)
    assert 'shape_bias' not in found


def rotations(condition, *rights):
    return [
        (condition, f'n0{i}_{condition}.png', 'dog', 'dog' if right else 'cat')
        for i, right in enumerate(rights)
    ]


def test_conditions_are_averaged_before_anything_else():
    """Of 4, 1 and 1 trials, so that the mean over trials is another."""
    model = responses(
        [
            *rotations('0', 0, 0),  # undistorted: does not count
            *rotations('90', 1, 1, 1, 0),
            *rotations('180', 1),
            *rotations('270', 0),
        ]
    )
    human = responses(
        [
            *rotations('270', 0),
            *rotations('90.0', 1, 1, 0, 1),
            *rotations('180.0', 0),
        ]
    )
    # the same images: the file's name says the condition of neither
    human = human._replace(image=[name.replace('.0.png', '.png') for name in human.image])
    found = score('rotation', {'model': model, 'subject-01': human})
    kappa = cohen_kappa_score([1, 1, 1, 0], [1, 1, 0, 1])
    assert found['model'] == {
        'accuracy_difference': pytest.approx((0 + 1 + 0) / 3),
        'observed_consistency': pytest.approx((0.5 + 0 + 1) / 3),
        'error_consistency': pytest.approx((kappa + 0 + 1) / 3),
        'ood_accuracy': pytest.approx(4 / 6),
    }


def test_humans_are_models_beside_the_others():
    people = {f'subject-0{i}': sketches(*r) for i, r in enumerate([(1, 0), (1, 1), (0, 0)])}
    found = score('sketch', people)
    # as a model of another name, beside the other two
    others = dict(list(people.items())[1:])
    renamed = score('sketch', {'x': people['subject-00'], **others}, ['x'])
    assert found['subject-00'] == renamed['x']
    assert [*renamed] == ['x']
    assert found['subject-01']['accuracy_difference'] == pytest.approx((0.25 + 1) / 2)


def test_who_is_alone_has_an_accuracy_only():
    assert score('edge', {'model': sketches(1, 0)}) == {'model': {'ood_accuracy': 0.5}}
    assert score('edge', {'subject-01': sketches(1)}) == {'subject-01': {'ood_accuracy': 1}}


def test_shape_bias_by_hand():
    rows = [
        ('NaN', 'airplane1-bicycle2.png', 'airplane', 'airplane'),  # shape
        ('NaN', 'bear10-cat3.png', 'bear', 'cat'),  # texture
        ('NaN', 'bear2-oven3.png', 'bear', 'bear'),  # shape
        ('NaN', 'bear2-knife3.png', 'bear', 'bear'),  # shape
        ('NaN', 'dog2-bear3.png', 'dog', 'na'),  # neither
        ('NaN', 'dog2-dog3.png', 'dog', 'dog'),  # no conflict
    ]
    named = [(c, f'0001_cc_s01_0_{k}_00_{i}', k, r) for c, i, k, r in rows]
    assert shape_bias(responses(rows)) == shape_bias(responses(named)) == 0.75
    assert score('cue-conflict', {'m': responses(rows)})['m']['shape_bias'] == 0.75
    assert score('cue-conflict', {'m': responses(rows)})['m']['ood_accuracy'] == 4 / 6
    assert 'shape_bias' not in score('cue-conflict', {'m': responses(rows[4:])})['m']


def test_average_is_over_those_that_have_a_value():
    scores = [{'ood_accuracy': 0.5, 'shape_bias': 0.25}, {'ood_accuracy': 1.0}]
    assert average(scores) == {'ood_accuracy': 0.75, 'shape_bias': 0.25}
    assert average([]) == {}


def test_unmatched_images_are_counted_and_named():
    human, more = sketches(1, 1), sketches(1, 1, 0, 0, 0, 0)
    assert_one_line(
        lambda: score('sketch', {'model': human, 'subject-01': more}),
        'sketch: model has no response to 4 images of subject-01 (2.png, 3.png, 4.png, ...)',
    )
    assert_one_line(
        lambda: score('sketch', {'model': more, 'subject-01': human}, ['model']),
        'sketch: subject-01 has no response to 4 images of model (2.png',
    )


def test_the_same_image_under_another_condition_is_unmatched():
    rows = [*rotations('90', 1), *rotations('180', 1), *rotations('270', 1)]
    turned = [('90', rows[1][1], 'dog', 'dog'), ('180', rows[0][1], 'dog', 'dog'), rows[2]]
    assert_one_line(
        lambda: score('rotation', {'m': responses(rows), 'subject-01': responses(turned)}),
        'rotation: m has no response to 2 images of subject-01',
    )


def test_responses_that_are_not_whole():
    assert_one_line(
        lambda: score('rotation', {'m': responses(rotations('90', 1))}),
        'rotation: m has no response in condition 180.0, 270.0',
    )
    twice = responses([*zip(*sketches(1), strict=True), *zip(*sketches(1, 0), strict=True)])
    assert_one_line(
        lambda: score('sketch', {'m': twice}), 'sketch: m answered 1 images more than once (0.png)'
    )

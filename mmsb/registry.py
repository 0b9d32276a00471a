"""mmsb's registries, and registration of models in mmengine's root registry as well."""

from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import VISBACKENDS as ROOT_VISBACKENDS
from mmengine.registry import Registry

MODELS = Registry('model', parent=ROOT_MODELS, scope='mmsb', locations=['mmsb.models'])
DATASETS = Registry(
    'dataset',
    parent=ROOT_DATASETS,
    scope='mmsb',
    locations=[
        'mmsb.datasets.cifar100',
        'mmsb.datasets.huggingface',
        'mmsb.studies.longrange.dataset',
        'mmsb.studies.ood.dataset',
    ],
)
HOOKS = Registry('hook', parent=ROOT_HOOKS, scope='mmsb', locations=['mmsb.engine.hooks'])
METRICS = Registry(
    'metric',
    parent=ROOT_METRICS,
    scope='mmsb',
    locations=['mmsb.studies.longrange.metric', 'mmsb.studies.ood.metric'],
)
TRANSFORMS = Registry(
    'transform', parent=ROOT_TRANSFORMS, scope='mmsb', locations=['mmsb.datasets.transforms']
)
VISBACKENDS = Registry(
    'vis_backend', parent=ROOT_VISBACKENDS, scope='mmsb', locations=['mmsb.engine.tracking']
)


def register_model(cls: type) -> type:
    """Register a module as ``mmsb.NAME`` and as plain ``NAME``.

    ``mmsb.NAME`` resolves in any ``default_scope`` without an import. A child of one toolbox's
    registry is invisible from the other toolboxes, so the plain name goes to mmengine's root
    registry, which mmdet, mmseg and mmpretrain all fall back to.

    Args:
        cls: The module class.

    Returns:
        The class, unchanged.
    """
    ROOT_MODELS.register_module(module=cls)
    return MODELS.register_module(module=cls)

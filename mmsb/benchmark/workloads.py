"""What a benchmark times: a network of the paper or a config's whole model, with its inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsb.engine.config import check_data_paths, read_model_config
from mmsb.studies.paper.networks import paper_networks
from mmsb.studies.paper.printed import R50, SB_R50
from mmsb.toolboxes import toolbox_of
from mmsb.utils.errors import UserError

# The networks of the paper's Tables 8 and 9, and what they are called.
NETWORKS = {
    'ResNet-50': R50,
    'SRM': ('T8', 'SRM'),
    'GE': ('T8', 'GE-theta'),
    'SE': ('T8', 'SE'),
    'SK': ('T8', 'SK'),
    'SB': SB_R50,
    'SB-SE': ('T8', 'SB-SE'),
    'SB-SK': ('T8', 'SB-SK cat-BN=sb'),
    'NL': ('T9', 'NL'),
    'GC': ('T9', 'GC_all c3-c5 r16'),
    'BAT': ('T9', 'BAT'),
    'SB-NL': ('T9', 'SB-NL'),
    'SB-GC': ('T9', 'SB-GC'),
    'SB-BAT': ('T9', 'SB-BAT'),
    'Reduced NL': ('T10', 'Reduced NL (t,p,g,z on 10x10)'),
}
# Variants of SB-ResNet-50, by the ablated setting.
VARIANTS = {
    **{f'SB size={size}': dict(size=size) for size in (4, 7, 14, 20)},
    **{f'SB channels={n}': dict(num_channels=n) for n in (1, 2, 4, 6, 13)},
    **{
        f'SB stages={"".join(map(str, stages))}': dict(
            stages=tuple(stage in stages for stage in (1, 2, 3, 4))
        )
        for stages in ((1,), (2,), (3,), (4,), (2, 3), (1, 2, 3, 4))
    },
}


@dataclass
class Workload:
    """One side of a comparison.

    Attributes:
        name: As it is printed.
        model: The network, a classifier's head included.
        inputs: Makes (images, targets) for a batch size, (H, W) and device.
        predict: Computes the outputs from images and targets.
        loss: Computes the loss, a scalar, from images and targets.
        batches: The config's own training batches, where the data are to be loaded.
    """

    name: str
    model: nn.Module
    inputs: Callable
    predict: Callable
    loss: Callable
    batches: Callable[[], Iterator] | None = None


def build_workload(name: str, data_batch: int | None = None) -> Workload:
    """Builds a network with random weights.

    Args:
        name: A name of `NETWORKS` or `VARIANTS`, or the path of a config.
        data_batch: Images a batch of the config's own training loader. Defaults to None: no data
            are loaded.

    Returns:
        The workload, on the CPU.

    Raises:
        UserError: There is no such network, config, toolbox or data.
    """
    torch.manual_seed(0)
    if not name.endswith('.py'):
        if data_batch:
            raise UserError(f'{name} has no data: give configs to --data')
        return _paper_network(name)
    cfg = read_model_config(name)
    loader = None
    if data_batch:
        check_data_paths(cfg, ('train_dataloader',))
        cfg.train_dataloader.batch_size = data_batch
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        if data_batch:
            loader = Runner.build_dataloader(cfg.train_dataloader)

    def loss(images, targets):
        return model.parse_losses(model(images, targets, mode='loss'))[0]

    return Workload(
        os.path.basename(name).removesuffix('.py'),
        model,
        toolbox_of(cfg).random_inputs,
        partial(model, mode='predict'),
        loss,
        loader and partial(_batches, loader, model),
    )


def _batches(loader, model: nn.Module) -> Iterator[tuple[Tensor, list]]:
    while True:
        for batch in loader:
            batch = model.data_preprocessor(batch, True)
            yield batch['inputs'], batch['data_samples']


class Classifier(nn.Module):
    """A backbone, global average pooling and a linear layer."""

    def __init__(self, backbone: nn.Module, num_classes: int):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.feat_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits, (B, num_classes)."""
        return self.fc(self.backbone(images)[-1].mean((2, 3)))


def _paper_network(name: str) -> Workload:
    if name in VARIANTS:
        cfg, num_classes = dict(type='SBResNet', spatial_bias=VARIANTS[name]), 1000
    elif name in NETWORKS:
        row = paper_networks()[NETWORKS[name]]
        cfg, num_classes = row['backbone_cfg'], row['num_classes']
    else:
        names = ', '.join([*NETWORKS, *VARIANTS])
        raise UserError(f'there is no network {name!r}: give a config (NAME.py) or one of {names}')
    model = Classifier(MODELS.build(cfg), num_classes)

    def inputs(batch, shape, device):
        images = torch.randn(batch, 3, *shape, device=device)
        return images, torch.randint(num_classes, (batch,), device=device)

    return Workload(
        name,
        model,
        inputs,
        lambda images, _: model(images),
        lambda images, labels: F.cross_entropy(model(images), labels),
    )

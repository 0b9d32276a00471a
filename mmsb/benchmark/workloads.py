"""What a benchmark times: a network of the paper or a config's whole model, with its inputs."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from mmsb.deployment.runtime import RUNTIMES
from mmsb.engine.config import check_data_paths, name_files_in_errors, read_model_config
from mmsb.studies.paper.networks import paper_networks
from mmsb.studies.paper.printed import R50, SB_R50
from mmsb.toolboxes import toolbox_of
from mmsb.toolboxes.mmdet import MMDet
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
STOCK = 'stock'  # mmdet's own ResNet-50
# Detectors' backbones with a feature pyramid: name -> arguments of SBResNet, None for mmdet's.
# Spatial bias learns in the frozen stage too, is frozen with it, or is not in it.
DETECTION = {
    'detection ResNet-50': dict(spatial_bias=None),
    'detection SB': dict(),
    'detection SB frozen': dict(freeze_spatial_bias=True),
    'detection SB stages=23': dict(spatial_bias=dict(stages=(False, True, True, False))),
    f'detection {STOCK}': None,
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
        from_config: Whether it is a toolbox's whole model, which converts its images itself.
    """

    name: str
    model: nn.Module
    inputs: Callable
    predict: Callable
    loss: Callable
    batches: Callable[[], Iterator] | None = None
    from_config: bool = False


def build_workload(name: str, data_batch: int | None = None) -> Workload:
    """Builds a network with random weights.

    Args:
        name: A name of `NETWORKS`, `VARIANTS` or `DETECTION`, `STOCK`, or the path of a config or
            of an ONNX file, 'RUNTIME:FILE' for another runtime than ONNX Runtime.
        data_batch: Images a batch of the config's own training loader. Defaults to None: no data
            are loaded.

    Returns:
        The workload, on the CPU.

    Raises:
        UserError: There is no such network, config, toolbox or data.
    """
    torch.manual_seed(0)
    if name.endswith('.onnx'):
        return _onnx(name)
    if not name.endswith('.py'):
        if data_batch:
            raise UserError(f'{name} has no data: give configs to --data')
        return _detection(name) if name in DETECTION else _classifier(name)
    cfg = read_model_config(name)
    loader = None
    if data_batch:
        check_data_paths(cfg, ('train_dataloader',))
        name_files_in_errors(cfg)
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
        from_config=True,
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


class Pyramid(nn.Module):
    """A backbone and a feature pyramid, as a detector has them."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        channels = [backbone.feat_dim // 2**i for i in (3, 2, 1, 0)]
        self.neck = FeaturePyramidNetwork(channels, 256)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to four levels, (B, 256, H / 4, W / 4) to (B, 256, H / 32, W / 32)."""
        features = self.backbone(images)
        return list(self.neck(OrderedDict(zip('2345', features, strict=True))).values())


def _stock_resnet(**options) -> nn.Module:
    try:
        return MMDet().resnet(**options)
    except Exception as error:  # not installed, or beside versions that it does not know
        reason = str(error).strip().partition('\n')[0]
        raise UserError(
            f"'{STOCK}' is mmdet's ResNet-50, but mmdet does not import ({reason}): "
            'install it or name other networks, as in ResNet-50 SB --preset headline'
        ) from error


def _detection(name: str) -> Workload:
    options, frozen = DETECTION[name], dict(frozen_stages=1, norm_eval=True)
    if options is None:
        backbone = _stock_resnet(**frozen)
    else:
        backbone = MODELS.build(dict(type='SBResNet', **options, **frozen))
    model = Pyramid(backbone)

    def inputs(batch, shape, device):
        return torch.randn(batch, 3, *shape, device=device), None

    def loss(images, _):
        return sum(level.float().square().mean() for level in model(images))

    return Workload(name, model, inputs, lambda images, _: model(images), loss)


def _classifier(name: str) -> Workload:
    if name == STOCK:
        # mmdet's default keeps batch norms in eval mode, which is not how a classifier is trained
        return _with_head(name, _stock_resnet(norm_eval=False), 1000)
    if name in VARIANTS:
        cfg, num_classes = dict(type='SBResNet', spatial_bias=VARIANTS[name]), 1000
    elif name in NETWORKS:
        row = paper_networks()[NETWORKS[name]]
        cfg, num_classes = row['backbone_cfg'], row['num_classes']
    else:
        names = ', '.join([STOCK, *NETWORKS, *VARIANTS, *DETECTION])
        raise UserError(f'there is no network {name!r}: give a config (NAME.py) or one of {names}')
    return _with_head(name, MODELS.build(cfg), num_classes)


def _onnx(name: str) -> Workload:
    runtime, _, path = name.rpartition(':')
    if runtime not in RUNTIMES:  # the colon, if any, belongs to the path
        runtime, path = 'onnxruntime', name
    run = RUNTIMES[runtime](path)

    def inputs(batch, shape, device):
        return torch.randn(batch, 3, *shape), None

    def loss(images, _):
        raise UserError(f'{path} is an ONNX file, which cannot be trained')

    def predict(images, _):
        return run(images)

    # the file's parameters are not PyTorch's
    label = os.path.basename(path) + (f' {runtime}' if path != name else '')
    return Workload(label, nn.Module(), inputs, predict, loss)


def _with_head(name: str, backbone: nn.Module, num_classes: int) -> Workload:
    model = Classifier(backbone, num_classes)

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

"""Simplified graphs against the original ones, and against sizes that PyTorch computes."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsb.deployment.graphs import simplify
from mmsb.deployment.operators import ExportSafe, make_exportable
from mmsb.models import SBResNet, fuse_spatial_bias
from tests.weights import randomise


def written(model, example):
    file, axes = io.BytesIO(), {'image': {0: 'batch', 2: 'height', 3: 'width'}}
    with torch.no_grad(), ExportSafe():
        torch.onnx.export(
            model, (example,), file, dynamo=False, opset_version=17, input_names=['image'],
            dynamic_axes=axes,
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {'image': images.numpy()})


class Asked(nn.Module):
    """Asks feature maps for their size after everything that changes it, or does not."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([
            nn.Conv2d(3, 4, 7, stride=2, padding=3),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(4, 4, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(2, 1)),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, stride=3),
        ])  # fmt: skip

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            for y in (
                x,
                x + x.mean((2, 3), keepdim=True),
                torch.cat([x, x], 1),
                x.mean(3)[..., None],
            ):
                found += [torch.as_tensor(side) for side in y.shape[2:]]
        return torch.stack(found)


@pytest.mark.parametrize('size', [(64, 64), (75, 101), (130, 67), (99, 160)])
def test_sizes_are_pytorchs(size):
    model = Asked().eval()
    graph = written(model, torch.randn(2, 3, 97, 141))
    simplify(graph.graph)
    onnx.checker.check_model(graph)
    images = torch.randn(1, 3, *size)
    assert run(graph, images)[0].tolist() == model(images).tolist()


def test_one_size_per_stage():
    torch.manual_seed(0)
    model = fuse_spatial_bias(randomise(SBResNet(50, base_channels=8)).float().eval())
    plain = model.layer4[1].conv1.weight.clone()
    images = torch.randn(3, 3, 75, 101)
    with torch.no_grad():
        wanted = model(images)
    make_exportable(model)
    assert torch.equal(model.layer4[1].conv1.weight, plain)
    graph = written(model, torch.randn(2, 3, 99, 165))
    before = len(graph.graph.node)
    simplify(graph.graph)
    onnx.checker.check_model(graph)
    operators = [node.op_type for node in graph.graph.node]
    assert len(operators) < before / 2
    # stages 1 to 3 have one size each, which gives the masks of one pooling for each axis
    assert operators.count('Range') == 6 and operators.count('Resize') == 13
    # each stage's features, then 13 resized maps' batch size, and the image itself
    assert operators.count('Shape') == 14
    # no feature map is asked for its size
    features = {
        name
        for node in graph.graph.node
        if node.op_type in ('Conv', 'Relu')
        for name in node.output
    }
    asked = {node.input[0] for node in graph.graph.node if node.op_type == 'Shape'}
    assert not features & asked
    for ours, theirs in zip(run(graph, images), wanted, strict=True):
        assert np.abs(ours - theirs.numpy()).max() <= 1e-5 * theirs.abs().max()


def test_maps_fill_whole_blocks_of_channels():
    model = fuse_spatial_bias(randomise(SBResNet(50, base_channels=8)).float().eval())
    make_exportable(model)
    for block in (model.layer1[0], model.layer2[1], model.layer3[5]):
        channels = block.conv2.out_channels
        assert block.conv3.in_channels == channels + 8
        maps = block.spatial_bias(torch.rand(2, block.conv2.in_channels, 13, 9), (13, 9))
        assert maps.shape == (2, 8, 13, 9) and not maps[:, 3:].any() and maps[:, :3].any()


def test_graphs_with_control_flow_stay():
    @torch.jit.script
    def branch(x: torch.Tensor):
        return F.relu(x) if x.sum() > 0 else x + x.shape[2]

    class Branch(nn.Module):
        def forward(self, x):
            return branch(x) + x.shape[2]

    graph = written(Branch(), torch.randn(1, 3, 8, 8))
    before = graph.SerializeToString(deterministic=True)
    assert any(node.op_type == 'If' for node in graph.graph.node)
    simplify(graph.graph)
    assert graph.SerializeToString(deterministic=True) == before

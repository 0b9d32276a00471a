"""SBResNet: the paper's counts, the toolboxes' ResNet, and every feature of its interface."""

import copy
import importlib
import pickle

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsb.analysis.counting import count as count_operations
from mmsb.models import SBResNet, SpatialBias, fuse_spatial_bias
from mmsb.models.backbones.residual_block import BasicBlock, Bottleneck, ResidualBlock
from mmsb.utils.errors import UserError

# Small enough to run in milliseconds, with all that a bottleneck network has.
SMALL = dict(depth=50, base_channels=8, spatial_bias=dict(size=4))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def with_head(model, num_classes=1000):
    """Parameters of the classifier: global pooling, then one linear layer."""
    return count(model) + (model.feat_dim + 1) * num_classes


def small(**kwargs):
    torch.manual_seed(0)
    return SBResNet(**{**SMALL, **kwargs})


def bias_blocks(model):
    """Blocks with spatial bias by stage, e.g. [3, 4, 6, 0]."""
    return [
        sum(hasattr(block, 'spatial_bias') for block in getattr(model, name))
        for name in model.res_layers
    ]


@pytest.fixture(autouse=True)
def quiet():
    MMLogger.get_current_instance().setLevel('WARNING')


class TestTheNetworkOfThePaper:
    def test_parameters_of_resnet_50(self):
        assert with_head(SBResNet(depth=50, spatial_bias=None)) == 25_557_032

    def test_parameters_of_sb_resnet_50(self):
        model = SBResNet()
        assert with_head(model) == 25_986_620
        assert bias_blocks(model) == [3, 4, 6, 0]

    @pytest.mark.parametrize(
        ('settings', 'expected'),
        [
            # Table 6
            (dict(stages=(True, False, True, False)), 25_857_452),
            (dict(stages=(False, True, True, False)), 25_893_008),
            (dict(stages=(True, True, True, True), size=(10, 10, 10, 6)), 26_024_552),
            # Table 7
            (dict(stages=(False, True, True, False), num_channels=1), 25_872_448),
            (dict(stages=(False, True, True, False), num_channels=5), 25_913_568),
            # resolution changes no parameter
            (dict(resolution='strided'), 25_986_620),
        ],
    )
    def test_parameters_of_the_ablations(self, settings, expected):
        with torch.device('meta'):
            assert with_head(SBResNet(spatial_bias=settings)) == expected

    @pytest.mark.parametrize(
        ('depth', 'plain', 'blocks'),
        [(18, 11_689_512, [2, 2, 2, 0]), (34, 21_797_672, [3, 4, 6, 0]),
         (101, 44_549_160, [3, 4, 23, 0]), (152, 60_192_808, [3, 8, 36, 0])],
    )  # fmt: skip
    def test_other_depths(self, depth, plain, blocks):
        # the plain counts are torchvision's
        with torch.device('meta'):
            assert with_head(SBResNet(depth=depth, spatial_bias=None)) == plain
            model = SBResNet(depth=depth)
        assert bias_blocks(model) == blocks
        extra = 0
        for name in model.res_layers[:3]:
            for block in getattr(model, name):
                extra += count(block.spatial_bias)
                _, conv = (getattr(block, layer) for layer in block.widened_layers)
                extra += 2 * 3 + 3 * conv.out_channels * conv.kernel_size[0] ** 2
        assert with_head(model) == plain + extra

    def test_block_computes_the_papers_order(self):
        # conv2 and the maps concatenated, then one norm over both: section 3, Eq. 1
        torch.manual_seed(0)
        block = Bottleneck(
            8,
            4,
            spatial_bias=dict(
                position='conv2', resolution='released', num_channels=3, size=4, kernel_size=3
            ),
            downsample=nn.Conv2d(8, 16, 1),
        )
        block.double().eval()
        x = torch.randn(2, 8, 9, 7, dtype=torch.float64)
        u = torch.relu(block.bn1(block.conv1(x)))
        o = torch.cat([block.conv2(u), block.spatial_bias(u, (9, 7))], 1)
        o = block.bn3(block.conv3(torch.relu(block.bn2(o))))
        torch.testing.assert_close(block(x), torch.relu(o + block.downsample(x)))

    @pytest.mark.parametrize(('resolution', 'size'), [('released', (16, 32)), ('strided', (8, 16))])
    def test_resolution_in_strided_blocks(self, resolution, size):
        model = small(spatial_bias=dict(size=4, resolution=resolution))
        seen = []
        bias = model.layer2[0].spatial_bias
        bias.reduction.register_forward_hook(lambda module, args, out: seen.append(out.shape[2:]))
        out = model(torch.rand(1, 3, 64, 128))
        assert seen == [size]
        assert out[1].shape[2:] == (8, 16)

    def test_position_conv1_reads_the_input_of_the_block(self):
        model = small(spatial_bias=dict(size=4, position='conv1'))
        block = model.layer1[1]
        assert block.spatial_bias.reduction.conv.in_channels == 32
        assert block.widened_layers == ('bn1', 'conv2')
        assert (block.conv2.in_channels, block.conv3.in_channels) == (11, 8)

    def test_basic_block_is_widened_after_its_first_3x3(self):
        block = small(depth=18).layer1[0]
        assert isinstance(block, BasicBlock)
        assert block.widened_layers == ('bn1', 'conv2')
        assert (block.conv1.out_channels, block.bn1.num_features, block.conv2.in_channels) == (
            8, 11, 11)  # fmt: skip


class TestThePlainResNet:
    """With ``spatial_bias=None``: the toolboxes' network, key for key and bit for bit."""

    @pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpretrain'])
    @pytest.mark.parametrize(
        'kwargs',
        [
            dict(depth=50),
            dict(depth=18),
            dict(depth=50, style='caffe'),
            dict(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            dict(depth=50, deep_stem=True, avg_down=True),
        ],
        ids=['r50', 'r18', 'caffe', 'dilated', 'v1d'],
    )
    def test_equals_the_toolboxes(self, toolbox, kwargs):
        pytest.importorskip(toolbox)
        if toolbox == 'mmpretrain' and 'deep_stem' in kwargs:
            pytest.skip("mmpretrain names the deep stem differently; ours is mmdet's and mmseg's")
        # mmseg applies a stage's dilation to all its blocks, as ours
        reference_class = importlib.import_module(f'{toolbox}.models.backbones.resnet').ResNet
        reference = reference_class(out_indices=(0, 1, 2, 3), base_channels=8, stem_channels=8,
                                    norm_eval=False, init_cfg=None, **kwargs)  # fmt: skip
        reference.eval()  # the toolboxes' returns None
        model = SBResNet(base_channels=8, spatial_bias=None, **kwargs).eval()
        assert list(model.state_dict()) == list(reference.state_dict())
        torch.manual_seed(0)
        for name, tensor in reference.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1) if name.endswith('var') else tensor.normal_(std=0.2)
        model.load_state_dict(reference.state_dict())
        x = torch.randn(2, 3, 61, 75)
        for ours, theirs in zip(model(x), reference(x), strict=True):
            assert torch.equal(ours, theirs)

    def test_equals_torchvision(self):
        from torchvision.models import resnet50

        reference = resnet50().eval()
        reference.fc = nn.Identity()
        model = SBResNet(spatial_bias=None).eval()
        assert list(model.state_dict()) == list(reference.state_dict())
        model.load_state_dict(reference.state_dict())
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(model(x)[-1].mean(dim=(2, 3)), reference(x))


# SBResNet's arguments, and torchvision's network of the same name.
RESNEXTS = {
    'resnext50_32x4d': dict(depth=50, groups=32, base_width=4),
    'resnext101_32x8d': dict(depth=101, groups=32, base_width=8),
    'wide_resnet50_2': dict(depth=50, base_width=128),
}


def with_statistics(model):
    """In eval mode, with norms that say something."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1:
            tensor.normal_(mean=float('weight' in name), std=0.1)
    model.eval()  # mmdet's returns None
    return model


class TestResNeXt:
    @pytest.mark.parametrize('name', RESNEXTS)
    def test_equals_torchvision(self, name):
        reference = with_statistics(importlib.import_module('torchvision').models.get_model(name))
        reference.fc = nn.Identity()
        model = SBResNet(**RESNEXTS[name], spatial_bias=None).eval()
        assert list(model.state_dict()) == list(reference.state_dict())
        model.load_state_dict(reference.state_dict())
        x = torch.randn(1, 3, 65, 48)
        stages = nn.Sequential(*list(reference.children())[:-2])  # without pooling
        assert torch.equal(model(x)[-1], stages(x))

    @pytest.mark.parametrize('dcn', [None, dict(type='DCNv2', deform_groups=1)])
    def test_equals_mmdets(self, dcn):
        pytest.importorskip('mmdet')
        from mmdet.models.backbones import ResNeXt

        kwargs = dict(
            depth=50, groups=32, base_width=4, dcn=dcn, stage_with_dcn=(False, True, True, True)
        )
        reference = with_statistics(ResNeXt(**kwargs))
        model = SBResNet(**kwargs, spatial_bias=None).eval()
        assert list(model.state_dict()) == list(reference.state_dict())
        model.load_state_dict(reference.state_dict())
        x = torch.randn(1, 3, 61, 75)
        for ours, theirs in zip(model(x), reference(x), strict=True):
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize('name', RESNEXTS)
    def test_counts_are_torchvisions(self, name):
        with torch.device('meta'):
            reference = importlib.import_module('torchvision').models.get_model(name)
            image, model = torch.empty(1, 3, 64, 96), SBResNet(**RESNEXTS[name], spatial_bias=None)
        counted, head = count_operations(reference, image), reference.fc.weight.numel()
        assert with_head(model) == counted.params
        assert count_operations(model, image).macs == counted.macs - head

    def test_spatial_bias_is_that_of_its_width(self):
        with torch.device('meta'):
            model = SBResNet(groups=32, base_width=4)
        for name in model.res_layers[:3]:
            for block in getattr(model, name):
                width = block.conv1.out_channels
                assert width == block.conv3.out_channels // 2
                assert block.conv2.weight.shape == (width, width // 32, 3, 3)
                assert block.spatial_bias.reduction.conv.in_channels == width
                assert block.conv3.in_channels == block.bn2.num_features == width + 3

    def test_other_base_channels_keep_the_proportion(self):
        block = small(groups=2, base_width=16).layer2[0]
        assert block.conv2.weight.shape == (16 * 16 // 64 * 2, 16 * 16 // 64, 3, 3)

    def test_layers_may_be_an_instances_or_the_classs(self):
        class Instance(Bottleneck):
            def layers(self, channels, stride, dilation, style):
                return [(channels + self.groups, 1, 1, 1), (channels, 3, stride, 1),
                        (channels * 4, 1, 1, 1)]  # fmt: skip

        class Static(Bottleneck):
            @staticmethod
            def layers(channels, stride, dilation, style):
                return [(channels, 1, 1, 1), (channels * 2, 3, stride, dilation),
                        (channels * 4, 1, 1, 1)]  # fmt: skip

        plugin = dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position='after_conv2')
        for block, first, second in ((Instance, 9, 8), (Static, 8, 16)):

            class Network(SBResNet):
                arch_settings = {50: (block, (1, 1, 1, 1))}

            position = dict(size=4, position='conv1')
            model = Network(base_channels=8, spatial_bias=position, plugins=[plugin])
            stage = model.layer1[0]
            assert (stage.conv1.out_channels, stage.conv2.out_channels) == (first, second)
            assert hasattr(stage, 'context_block')
            assert model.eval()(torch.rand(1, 3, 64, 64))[-1].shape == (1, 256, 2, 2)
            with pytest.raises(UserError, match='the position of a plugin'):
                Network(base_channels=8, plugins=[dict(plugin, position='after_conv4')])


class TestShapes:
    @pytest.mark.parametrize('size', [(64, 64), (33, 97), (160, 40), (32, 32), (64, 224)])
    @pytest.mark.parametrize('batch', [1, 3])
    def test_any_height_width_and_batch(self, size, batch):
        model = small().eval()
        outs = model(torch.rand(batch, 3, *size))
        for i, out in enumerate(outs):
            expected = [-(-length // 2 ** (i + 2)) for length in size]  # rounded up
            assert out.shape == (batch, 32 * 2**i, *expected)

    def test_batch_one_in_training(self):
        # the authors' release fails here (squeeze)
        for out in small().train()(torch.rand(1, 3, 64, 96)):
            assert out.isfinite().all()

    def test_batch_items_do_not_mix(self):
        model = small().eval()
        x = torch.rand(3, 3, 48, 80)
        alone = torch.cat([model(image[None])[-1] for image in x])
        torch.testing.assert_close(model(x)[-1], alone)

    def test_stage_four_with_its_own_size(self):
        model = small(spatial_bias=dict(stages=(True,) * 4, size=(8, 6, 4, 2))).eval()
        assert bias_blocks(model) == [3, 4, 6, 3]
        assert [getattr(model, n)[0].spatial_bias.size for n in model.res_layers] == [8, 6, 4, 2]
        assert model(torch.rand(1, 3, 64, 64))[-1].shape == (1, 256, 2, 2)

    @pytest.mark.parametrize('out_indices', [(0,), (3,), (1, 3), (0, 1, 2, 3)])
    def test_out_indices(self, out_indices):
        everything = small().eval()
        model = small(out_indices=out_indices).eval()
        x = torch.rand(1, 3, 64, 64)
        outs, all_outs = model(x), everything(x)
        assert len(outs) == len(out_indices)
        for i, out in zip(out_indices, outs, strict=True):
            assert torch.equal(out, all_outs[i])

    def test_fewer_stages(self):
        model = small(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
        assert bias_blocks(model) == [3, 4, 6]
        assert model.eval()(torch.rand(1, 3, 64, 64))[0].shape == (1, 128, 4, 4)


class TestTraining:
    @pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3])
    @pytest.mark.parametrize('deep_stem', [False, True])
    def test_frozen_stages(self, frozen_stages, deep_stem):
        model = small(frozen_stages=frozen_stages, deep_stem=deep_stem, freeze_spatial_bias=True)
        stem = [model.stem] if deep_stem else [model.conv1, model.bn1]
        stages = [stem, *([getattr(model, name)] for name in model.res_layers)]

        def check():
            for i, modules in enumerate(stages):
                for module in modules:
                    frozen = i <= frozen_stages
                    assert all(p.requires_grad != frozen for p in module.parameters())
                    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
                    assert all(norm.training != frozen for norm in norms)

        model.train()
        check()
        model.eval().requires_grad_(True)
        model.train()  # freezes again
        check()

    def test_frozen_in_init(self):
        # freezing in train() only leaves parameters that DDP waits for
        model = small(frozen_stages=2, freeze_spatial_bias=True)
        assert not any(p.requires_grad for p in model.layer2.parameters())
        assert all(p.requires_grad for p in model.layer3.parameters())

    @pytest.mark.parametrize('norm_eval', [True, False])
    def test_norm_eval(self, norm_eval):
        model = small(norm_eval=norm_eval, freeze_spatial_bias=True).train()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        assert model.training
        assert all(norm.training != norm_eval for norm in norms)

    def test_gradients_reach_every_parameter(self):
        model = small(spatial_bias=dict(size=4, stages=(True,) * 4)).train()
        sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_zero_init_residual(self):
        model = small(zero_init_residual=True)
        model.init_weights()
        assert all(
            (block.last_norm.weight == 0).all()
            for block in model.modules()
            if isinstance(block, ResidualBlock)
        )
        model = small()
        model.init_weights()
        assert (model.layer1[0].last_norm.weight == 1).all()

    def test_zero_init_residual_leaves_pretrained_weights(self, tmp_path):
        weights = small().state_dict()
        for block in ('layer1.0', 'layer4.2'):
            weights[f'{block}.bn3.weight'].uniform_(0.5, 1)
        torch.save(weights, tmp_path / 'weights.pth')
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
        model = small(zero_init_residual=True, init_cfg=init_cfg)
        model.init_weights()
        assert torch.equal(model.layer4[2].bn3.weight, weights['layer4.2.bn3.weight'])
        assert torch.equal(model.layer1[0].bn3.weight, weights['layer1.0.bn3.weight'])

    def test_init_weights_is_the_authors(self):
        model = SBResNet()
        model.init_weights()
        for name in ('layer3.0.conv3', 'layer3.0.spatial_bias.reduction.conv'):
            weight = model.get_parameter(f'{name}.weight')
            expected = (2 / weight.shape[0] / weight[0, 0].numel()) ** 0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.05)

    def test_drop_path(self):
        model = small(drop_path_rate=0.3)
        rates = [getattr(m.drop_path, 'drop_prob', 0.0)
                 for m in model.modules() if isinstance(m, ResidualBlock)]  # fmt: skip
        assert rates == pytest.approx([0.3 * i / 15 for i in range(16)])
        x = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(model.eval()(x)[-1], small().eval()(x)[-1])
        assert not torch.equal(model.train()(x)[-1], model(x)[-1])

    def test_gradient_checkpointing(self):
        x = torch.rand(2, 3, 64, 64)
        grads = []
        for with_cp in (False, True):
            model = small(with_cp=with_cp).double().train()
            sum(out.sum() for out in model(x.double())).backward()
            grads.append([parameter.grad for parameter in model.parameters()])
        for plain, checkpointed in zip(*grads, strict=True):
            torch.testing.assert_close(plain, checkpointed)


class TestParts:
    def test_norm_cfg(self):
        model = small(norm_cfg=dict(type='SyncBN'))
        assert not any(type(m) is nn.BatchNorm2d for m in model.modules())
        assert isinstance(model.layer1[0].spatial_bias.reduction.norm, nn.SyncBatchNorm)
        model = small(norm_cfg=dict(type='GN', num_groups=4), spatial_bias=None)
        assert isinstance(model.layer1[0].last_norm, nn.GroupNorm)

    def test_conv_cfg(self):
        model = small(conv_cfg=dict(type='ConvWS'))
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert {type(conv).__name__ for conv in convs} == {'ConvWS2d'}

    @pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
    def test_dcn(self, kind):
        model = small(dcn=dict(type=kind, deform_groups=1, fallback_on_stride=True),
                      stage_with_dcn=(False, True, False, False)).eval()  # fmt: skip
        kinds = [type(block.conv2).__name__ for block in model.layer2]
        assert kinds[0] == 'Conv2d' and len(set(kinds[1:])) == 1 and 'Deform' in kinds[1]
        assert type(model.layer3[1].conv2) is nn.Conv2d
        assert model(torch.rand(1, 3, 64, 64))[1].shape == (1, 64, 8, 8)

    def test_plugins_compose_with_spatial_bias(self):
        plugins = [
            dict(cfg=dict(type='ContextBlock', ratio=1 / 4), stages=(False, True, True, True),
                 position='after_conv3'),
            dict(cfg=dict(type='ContextBlock', ratio=1 / 4, postfix='_wide'),
                 stages=(True, False, False, False), position='after_conv2'),
        ]  # fmt: skip
        model = small(plugins=plugins)
        assert not hasattr(model.layer1[0], 'context_block')
        assert model.layer1[0].context_block_wide.in_channels == 8 + 3  # the widened features
        assert model.layer2[0].context_block.in_channels == 64
        assert len(model.eval()(torch.rand(1, 3, 64, 64))) == 4

    def test_plugins_stand_where_mmdet_puts_them(self):
        pytest.importorskip('mmdet')
        from mmdet.models.backbones import ResNet

        plugins = [dict(cfg=dict(type='ContextBlock', ratio=1 / 4), position=f'after_conv{i}')
                   for i in (1, 2, 3)]  # fmt: skip
        for i, plugin in enumerate(plugins):
            plugin['cfg']['postfix'] = i
        reference = ResNet(50, base_channels=8, plugins=plugins)
        reference.eval()
        model = small(spatial_bias=None, plugins=plugins).eval()
        for parameter in reference.parameters():
            nn.init.normal_(parameter, std=0.1)
        model.load_state_dict(reference.state_dict())
        x = torch.rand(1, 3, 64, 64)
        for ours, theirs in zip(model(x), reference(x), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_registered_twice(self):
        for name in ('SBResNet', 'SpatialBias', 'mmsb.SBResNet'):
            assert ROOT_MODELS.get(name) in (SBResNet, SpatialBias)

    @pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpretrain'])
    def test_resolves_in_every_scope(self, toolbox):
        pytest.importorskip(toolbox)
        registry = importlib.import_module(f'{toolbox}.registry').MODELS
        for name in ('SBResNet', 'mmsb.SBResNet'):
            assert isinstance(registry.build(dict(type=name, **SMALL)), SBResNet)


class TestRuntimes:
    def test_amp_bfloat16(self):
        model = small().train()
        with torch.autocast('cpu', torch.bfloat16):
            out = model(torch.rand(2, 3, 64, 64))[-1]
        out.float().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        assert out.dtype == torch.bfloat16

    def test_bfloat16_is_near_float64(self):
        x = torch.rand(2, 3, 64, 64)
        exact = small().double().eval()(x.double())[0]
        with torch.autocast('cpu', torch.bfloat16):
            rounded = small().eval()(x)[0]
        error = (rounded.double() - exact).norm() / exact.norm()
        assert error < 0.02  # bfloat16 has 8 bits: 0.4 % a rounding

    def test_channels_last(self):
        x = torch.rand(2, 3, 64, 96)
        expected = small().eval()(x)
        model = small().eval().to(memory_format=torch.channels_last)
        outs = model(x.to(memory_format=torch.channels_last))
        for out, reference in zip(outs, expected, strict=True):
            torch.testing.assert_close(out, reference, rtol=1e-4, atol=1e-5)
        assert outs[-1].is_contiguous(memory_format=torch.channels_last)

    def test_compile_has_no_graph_break(self):
        model = small(depth=18).eval()
        x = torch.rand(1, 3, 64, 64)
        compiled = torch.compile(model, fullgraph=True, backend='aot_eager')  # raises at a break
        for out, reference in zip(compiled(x), model(x), strict=True):
            torch.testing.assert_close(out, reference)

    def test_export(self):
        model = small().eval()
        x = torch.rand(1, 3, 64, 96)
        program = torch.export.export(model, (x,))
        for out, reference in zip(program.module()(x), model(x), strict=True):
            torch.testing.assert_close(out, reference)

    @pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
    @pytest.mark.parametrize('fuse', [False, True])
    def test_a_traced_network_may_be_cast(self, dtype, fuse):
        model = small().eval()
        if fuse:
            fuse_spatial_bias(model)
        x = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            traced = torch.jit.trace(model, x).to(dtype)
            expected = model.to(dtype)(x.to(dtype))
            for out, reference in zip(traced(x.to(dtype)), expected, strict=True):
                assert out.dtype == dtype
                torch.testing.assert_close(out, reference)

    def test_pickle_and_copy(self):
        model = small().eval()
        x = torch.rand(1, 3, 64, 64)
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert torch.equal(other(x)[-1], model(x)[-1])

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
    def test_cuda_equals_cpu(self):
        model = small().double().eval()
        x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
        expected = model(x)
        for out, reference in zip(model.cuda()(x.cuda()), expected, strict=True):
            torch.testing.assert_close(out.cpu(), reference)


class TestBadInput:
    @pytest.mark.parametrize(
        ('kwargs', 'message'),
        [
            (dict(spatial_bias=dict(num_chanels=3)), "no key 'num_chanels': did you mean 'num_ch"),
            (dict(spatial_bias=dict(position='conv3')), "position'] is 'conv3'; give one of"),
            (dict(spatial_bias=dict(resolution='half')), "resolution'] is 'half'; give one of"),
            (dict(spatial_bias=dict(stages=(True,))), 'give 4 values, one per stage'),
            (dict(spatial_bias=dict(size=(4, 4))), 'give 4 values, one per stage'),
            (dict(spatial_bias=dict(size=0)), "size'] is 0; give 1 or more"),
            (dict(depth=42), 'depth is 42; give one of 18, 34, 50, 101, 152'),
            (dict(style='tensorflow'), "style is 'tensorflow'"),
            (dict(out_indices=(4,)), 'out_indices'),
            (dict(strides=(1, 2)), 'strides'),
            (dict(norm_cfg=dict(type='GN', num_groups=4)), 'treats each channel alone'),
            (dict(depth=18, dcn=dict(type='DCN')), 'dcn needs a bottleneck'),
            (dict(depth=18, groups=2), 'groups and base_width need a bottleneck (depth 50,'),
            (dict(depth=34, base_width=128), 'groups and base_width need a bottleneck'),
            (dict(groups=2, spatial_bias=dict(position='conv1')), "give position='conv2' or gr"),
            (dict(groups=32, base_width=4), 'groups=32 and base_width=4 leave no channels of 8'),
            (dict(groups=0), 'groups=0 and base_width=64 leave no channels'),
            (dict(plugins=[dict(cfg=dict(type='ContextBlock'), position='after_conv4')]),
             'the position of a plugin'),
        ],
    )  # fmt: skip
    def test_one_clear_line(self, kwargs, message):
        with pytest.raises(UserError) as error:
            small(**kwargs)
        assert message in str(error.value)
        assert '\n' not in str(error.value)

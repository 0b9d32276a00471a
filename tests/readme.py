"""The commands and Python examples of README and docs, by name: tests run them as they stand.

Tests run each line of a ``bash`` block and each ``python`` block. A ``shell`` block has
placeholders or takes hours: a test only checks that its files exist. A line may stand on several
pages.
"""

import re

from tests.conftest import ROOT

PAGES = [ROOT / 'README.md', ROOT / 'benchmarks/README.md', *sorted((ROOT / 'docs').glob('*.md'))]
# name: what only that command matches. test_readme.py sees that each command has one name, and
# that each name is run by some test.
NAMES = {
    'demo': r'^make demo',
    'test': r'^make test',
    'test on openmmlab': r'^STACK=openmmlab make test',
    'install': r'^pip install -e \.( |$)',
    'install onedl': r'^pip install -e "\.\[onedl\]"',
    'install openmmlab': r'^pip install -e "\.\[openmmlab\]"',
    'check_env': r'check_env',
    'train sb': r'^tools/dist_train\.sh configs/faster_rcnn_sb_\S+ 2',
    'train baseline': r'^tools/dist_train\.sh configs/faster_rcnn_r50_\S+ 2',
    'train on 8': r'^tools/dist_train\.sh \S+ 8',
    'test sb': r'^tools/dist_test\.sh',
    'draw predictions': r'^python tools/test\.py',
    'three seeds': r'train_seeds\.py configs/cifar100',
    'node 0': r'^NNODES=2 NODE_RANK=0',
    'node 1': r'^NNODES=2 NODE_RANK=1',
    'slurm train': r'slurm_train\.sh',
    'slurm test': r'slurm_test\.sh',
    'tables': r'paper_tables\.py',
    'flops': r'get_flops\.py',
    'draw COCO': r'make_mini_coco\.py',
    'draw ADE20K': r'make_mini_ade20k\.py',
    'draw ImageNet': r'make_mini_imagenet\.py',
    'draw CIFAR-100': r'make_mini_cifar100\.py',
    'prepare COCO': r'^mmsb prepare-data coco downloads',
    'prepare ADE20K': r'^mmsb prepare-data ade20k',
    'prepare ImageNet': r'^mmsb prepare-data imagenet',
    'prepare CIFAR-100': r'^mmsb prepare-data cifar100',
    'check COCO': r'^mmsb prepare-data coco \S+ --check',
    'train CIFAR-100': r'^MMSB_CIFAR100_ROOT=',
    'chain': r'^make chain',
    'convert': r'convert\.py',
    'publish': r'publish_model\.py',
    'image demo': r'image_demo\.py',
    'install deploy': r'^pip install -e "\.\[deploy\]"',
    'export': r'deployment/export\.py',
    'quantize': r'deployment/quantize\.py',
    'test onnx': r'deployment/test\.py',
    'train long-range': r'train_seeds\.py configs/longrange',
    'long-range report': r'longrange_report\.py',
    'receptive field': r'receptive_field\.py',
    'vis spatial bias': r'vis_spatial_bias\.py',
    'vis cam': r'vis_cam\.py',
    'install visualization': r'^pip install -e "\.\[visualization\]"',
    'test ood': r'^MMSB_OOD_ROOT=',
    'ood report': r'ood_report\.py',
    'benchmark paper': r'benchmark\.py --preset paper',
    'benchmark': r'benchmark\.py ResNet',
    'docs': r'^make docs',
}


# name: what only that Python example matches
EXAMPLES = {
    'detector': r'_delete_=True,\n.*SBResNet',
    'stock config': r'dino-4scale_r50_8xb2-12e_coco',
    'compared block': r'plugins=_base_\.plugins',
    'features': r'features = SBResNet',
    'network by name': r'list_models',
    'own detection data': r'faster_rcnn_sb_r50',
    'own segmentation data': r'fpn_sb_r50',
    'own classification data': r'sb_resnet50_step',
    'timm': r'create_model.*feature_info',
    'timm weights': r'create_model.*pretrained_cfg_overlay',
    'smp': r'smp\.Unet.*masks',
    'smp weights': r'smp\.Unet.*load_state_dict',
    'torchvision': r'BackboneWithFPN',
    'other networks': r'add_spatial_bias',
    'other networks in a config': r'mmsb\.with_spatial_bias',
    'folder': r'save_pretrained',
    'torch hub': r'torch\.hub\.load',
    'Hugging Face data': r'imagenet_hf',
}


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language, on all pages."""
    return [
        block for page in PAGES
        for block in re.findall(rf'```{language}\n(.*?)```', page.read_text(), re.DOTALL)
    ]  # fmt: skip


def commands() -> list[str]:
    """Every line of the bash blocks once, without its comment."""
    text = '\n'.join(blocks('bash'))
    lines = re.sub(r' *\\\n +', ' ', text).splitlines()  # a long line goes on after a backslash
    lines = [re.sub(r'\s+#.*', '', line) for line in lines if line.strip()]
    return list(dict.fromkeys(lines))


def examples() -> list[str]:
    """Every Python block once."""
    return list(dict.fromkeys(blocks('python')))


def command(name: str) -> str:
    """The one command of that name."""
    return _only(NAMES[name], commands())


def example(name: str) -> str:
    """The one Python example of that name."""
    return _only(EXAMPLES[name], examples())


def _only(pattern: str, texts: list[str]) -> str:
    found = [text for text in texts if re.search(pattern, text, re.DOTALL)]
    assert len(found) == 1, (pattern, found)
    return found[0]

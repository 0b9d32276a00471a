"""The runtimes beside each other, and what is missing for them."""

import subprocess
import sys

import pytest
import torch

from mmsb.deployment.runtime import RUNTIMES, OnnxModel, OpenVinoModel
from tests.conftest import assert_one_line


def test_openvino_computes_the_same(exported):
    """At any size and batch, and not into memory that the next call overwrites."""
    pytest.importorskip('openvino')
    pytest.importorskip('mmseg')
    path = exported('mmseg')
    ours, theirs = OpenVinoModel(path), OnnxModel(path)
    assert (ours.shape, ours.outputs) == (theirs.shape, theirs.outputs) and ours.metadata
    assert ours.metadata == theirs.metadata == dict(theirs.metadata)
    batches = [torch.randn(n, 3, *size) for n, *size in ((1, 64, 96), (3, 75, 101), (2, 128, 64))]
    found = [ours(images) for images in batches]
    for images, (logits,) in zip(batches, found, strict=True):
        (wanted,) = theirs(images)
        torch.testing.assert_close(logits, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())


def test_openvino_of_one_size(exported):
    pytest.importorskip('openvino')
    pytest.importorskip('mmpretrain')
    path = exported('mmpretrain', False)
    images = torch.randn(3, 3, 96, 96)
    (logits,), (wanted,) = OpenVinoModel(path)(images), OnnxModel(path)(images)
    torch.testing.assert_close(logits, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())
    assert_one_line(lambda: OpenVinoModel(path)(images[:, :, :64]), 'takes images of 96 x 96')


def test_signals_after_two_openvino_models(exported):
    """Deleted in the order in which they were made; the child would end by SIGSEGV."""
    pytest.importorskip('openvino')
    pytest.importorskip('mmpretrain')
    code = (
        'import gc, signal, sys\n'
        'from mmsb.deployment.runtime import OpenVinoModel\n'
        'models = [OpenVinoModel(sys.argv[1]) for _ in range(2)]\n'
        'for _ in range(2):\n'
        '    del models[0]\n'
        '    gc.collect()\n'
        'signal.signal(signal.SIGCHLD, lambda *_: print("handled"))\n'
        'signal.raise_signal(signal.SIGCHLD)\n'
    )
    path = exported('mmpretrain', False)
    child = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, 'handled\n'), child.stderr


def test_a_missing_runtime(exported, monkeypatch):
    pytest.importorskip('mmpretrain')
    path = exported('mmpretrain', False)
    tensorrt = lambda: RUNTIMES['tensorrt'](path)  # noqa: E731
    assert_one_line(tensorrt, '--runtime tensorrt needs a GPU')
    # the package is there, but cannot load TensorRT's libraries: it would run on the CPU
    monkeypatch.setattr(
        'onnxruntime.get_available_providers', lambda: ['TensorrtExecutionProvider']
    )
    monkeypatch.setattr('onnxruntime.InferenceSession', lambda *_, **__: Fallen)
    assert_one_line(tensorrt, 'cannot start its TensorrtExecutionProvider')
    find = __import__('importlib.util').util.find_spec
    monkeypatch.setattr(
        'importlib.util.find_spec', lambda name: None if name == 'openvino' else find(name)
    )
    assert_one_line(
        lambda: OpenVinoModel(path), "openvino not installed: pip install 'mmsb[deploy]'"
    )


class Fallen:
    """A session that fell back to the CPU."""

    get_providers = staticmethod(lambda: ['CPUExecutionProvider'])

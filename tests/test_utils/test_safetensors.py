"""Our reader and writer of safetensors against the package of that name."""

import pytest
import torch

from mmsb.utils.errors import UserError
from mmsb.utils.safe_load import load_checkpoint_file, safe_loading
from mmsb.utils.safetensors import DTYPES, as_safetensors

package = pytest.importorskip('safetensors.torch')


def tensors():
    found = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES.values()}
    return {'odd': torch.ones(3, dtype=torch.uint8), **found, 'scalar': torch.tensor(2.5),
            'none': torch.zeros(0, 4), 'turned': torch.arange(6.0).reshape(2, 3).T}  # fmt: skip


def equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_reads_what_the_package_writes(tmp_path):
    path = tmp_path / 'a.bin'  # the content decides, not the name
    wanted = {name: tensor.contiguous() for name, tensor in tensors().items()}
    package.save_file(wanted, path, metadata=dict(format='pt'))
    equal(load_checkpoint_file(path), wanted)
    with safe_loading():
        equal(torch.load(path, map_location='cpu'), wanted)


def test_the_package_reads_what_we_write(tmp_path):
    (tmp_path / 'a.safetensors').write_bytes(as_safetensors(tensors()))
    equal(package.load_file(tmp_path / 'a.safetensors'), tensors())


def test_a_cut_file(tmp_path):
    content = as_safetensors(tensors())
    for size in (12, 200, len(content) - 1):
        (tmp_path / 'cut').write_bytes(content[:size])
        with pytest.raises(UserError, match='damaged'):
            load_checkpoint_file(tmp_path / 'cut')


def test_other_types(tmp_path):
    with pytest.raises(UserError, match=r'a has the type torch\.complex64'):
        as_safetensors(dict(a=torch.zeros(2, dtype=torch.complex64)))

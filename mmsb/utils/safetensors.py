"""Reading and writing safetensors files, without the package of that name.

The format: the length of the header (8 bytes, little endian), the header (JSON: for each tensor its
type, shape and place), then the tensors' bytes one after the other.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from mmsb.utils.errors import UserError

DTYPES = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'I64': torch.int64,
    'I32': torch.int32,
    'I16': torch.int16,
    'I8': torch.int8,
    'U8': torch.uint8,
    'BOOL': torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def is_safetensors(start: bytes) -> bool:
    """Tell whether a file begins as a safetensors file, from its first 9 bytes or more."""
    return len(start) > 8 and start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < 1e8


def read_safetensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises:
        ValueError: The file is damaged or has a type that is not in `DTYPES`.
    """
    with open(path, 'rb') as file:
        header = _header(file)
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == '__metadata__':
            continue
        begin, end = entry['data_offsets']
        if entry['dtype'] not in DTYPES:
            raise ValueError(f'tensor {name} has the type {entry["dtype"]}')
        dtype, shape = DTYPES[entry['dtype']], entry['shape']
        if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f'tensor {name} is not whole')
        # a copy, as torch wants a tensor to start at a multiple of its type's size
        flat = torch.frombuffer(data[begin:end], dtype=dtype) if end > begin else torch.empty(0)
        tensors[name] = flat.to(dtype).reshape(shape)
    return tensors


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Return the text that a safetensors file holds beside its tensors, by name."""
    with open(path, 'rb') as file:
        return _header(file).get('__metadata__') or {}


def _header(file: BinaryIO) -> dict:
    return json.loads(file.read(int.from_bytes(file.read(8), 'little')))


def as_safetensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the content of a safetensors file that holds the tensors.

    Args:
        tensors: The tensors by name. Tensors that share memory are written several times.
        metadata: Text to hold beside them, by name. Defaults to None: only ``format='pt'``, by
            which transformers knows the library.

    Raises:
        UserError: A tensor has a type that is not in `DTYPES`.
    """
    header = dict(__metadata__=dict(format='pt', **(metadata or {})))
    parts, begin = [], 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise UserError(
                f'{name} has the type {tensor.dtype}, which safetensors files cannot hold'
            )
        tensor = tensor.detach().cpu().contiguous()
        part = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        end = begin + len(part)
        shape = list(tensor.shape)
        header[name] = dict(dtype=_NAMES[tensor.dtype], shape=shape, data_offsets=[begin, end])
        parts.append(part)
        begin = end
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # tensors then start at a multiple of 8
    return b''.join([len(text).to_bytes(8, 'little'), text, *parts])

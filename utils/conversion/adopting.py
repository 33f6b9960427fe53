"""Files that other releases and packs converted, without a note of what they were made of.

Such a file is used instead of making another one where its weights show that it was made of this source: it has the
same tensors, and samples of the largest ones are as close to the source as the precision allows. A name proves
nothing. What fits gets a sidecar, and is found by it from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from ..errors import ModelFileError
from ..package_version import PACKAGE_VERSION
from ..quantization.dequantize import dequantize
from ..quantization.ggml_types import GGML_TYPES
from ..quantization.quality import compare
from ..weights.diffusion_models import model_prefix
from ..weights.gguf_header import read_gguf_header
from ..weights.safetensors_header import read_safetensors_header
from .encodings import TORCH_TYPES
from .model_tensors import ModelTensor
from .plan import RECIPE_VERSION
from .sidecars import Sidecar, now, sidecar_path, write_sidecar
from .source import Source
from .targets import Target

# Target → the type that its large weights have.
_TYPES = {
    "bf16": "BF16",
    "fp16": "F16",
    "fp8_e4m3fn": "F8_E4M3",
    "fp8_e5m2": "F8_E5M2",
    "gguf_F16": "F16",
    "gguf_Q8_0": "Q8_0",
    "gguf_Q5_K_M": "Q5_K",
    "gguf_Q5_0": "Q5_0",
    "gguf_Q4_K_M": "Q4_K",
    "gguf_Q4_0": "Q4_0",
}
# The largest error that a type leaves in a sample. Of two models with the same tensors one is further from the
# other: even a fine-tuned one from its base, in some of its largest layers.
_LIMITS = {
    "F32": 0.0001,
    "F16": 0.001,
    "BF16": 0.004,
    "F8_E4M3": 0.05,
    "F8_E5M2": 0.1,
    "Q8_0": 0.01,
    "Q6_K": 0.03,
    "Q5_K": 0.06,
    "Q5_1": 0.06,
    "Q5_0": 0.07,
    "Q4_K": 0.12,
    "Q4_1": 0.13,
    "Q4_0": 0.15,
}
_TENSORS, _ELEMENTS = 8, 1 << 14


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor of such a file: its type and shape, and where its bytes begin."""

    type: str
    shape: tuple[int, ...]
    begin: int


def adopt(source: Source, target: Target, path: Path) -> Sidecar | None:
    """Return the sidecar that a file gets, which was made of this source; None where it was not.

    A file that has a sidecar gets none: what it was made of is known, and samples would not show that the
    source has changed a little since.
    """
    if target.name not in _TYPES or not path.is_file() or sidecar_path(path).exists():
        return None
    try:
        tensors, head = _read(path)
    except ModelFileError:
        return None  # it is damaged, and a new one is made elsewhere
    types = {tensor.type for tensor in tensors.values()}
    if _TYPES[target.name] not in types or not _same_shapes(source, tensors):
        return None
    largest = sorted(tensors, key=lambda name: -prod(tensors[name].shape))[:_TENSORS]
    if not all(_fits(source, name, path, tensors[name]) for name in largest):
        return None
    made = now()
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(head)).hexdigest()
    layers = {name: {"type": tensor.type} for name, tensor in tensors.items()}
    sidecar = Sidecar(
        target=target.name,
        recipe=RECIPE_VERSION,
        source=str(source.path),
        identity=source.identity,
        size=path.stat().st_size,
        head=head,
        digest=digest,
        tool=f"made by others, found by luna-collection {PACKAGE_VERSION}",
        created=made,
        used=made,
        layers=layers,
    )
    write_sidecar(path, sidecar)
    return sidecar


def _read(path: Path) -> tuple[dict[str, _Stored], int]:
    """Return a file's tensors without a checkpoint's prefix, and where its data begins."""
    if path.suffix.lower() == ".gguf":
        header = read_gguf_header(path)
        begin = header.data_begin
        tensors = {n: _Stored(t.type, t.shape, begin + t.begin) for n, t in header.tensors.items()}
    else:
        safe = read_safetensors_header(path)
        begin = path.stat().st_size - safe.total_bytes
        tensors = {n: _Stored(t.dtype, t.shape, begin + t.begin) for n, t in safe.tensors.items()}
    prefix = model_prefix({name: tensor.shape for name, tensor in tensors.items()})
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, begin


def _same_shapes(source: Source, tensors: Mapping[str, _Stored]) -> bool:
    return source.tensors.keys() == tensors.keys() and all(
        tensor.shape == source.tensors[name].shape for name, tensor in tensors.items()
    )


def _fits(source: Source, name: str, path: Path, stored: _Stored) -> bool:
    """Tell whether the first elements of a tensor are those of the source, as far as its type holds them."""
    given = source.tensors[name]
    count = min(prod(stored.shape), _ELEMENTS) // 256 * 256
    if not count:
        return True
    if stored.type not in _LIMITS:
        return False
    before, after = _numbers(source.files, given, count), _decoded(path, stored, count)
    return compare(before, after).relative_rmse <= _LIMITS[stored.type]


def _numbers(files: Sequence[Path], tensor: ModelTensor, count: int) -> torch.Tensor:
    dtype = TORCH_TYPES[tensor.dtype]
    piece = tensor.pieces[0]
    size = min(count * dtype.itemsize, piece.size)
    return torch.frombuffer(_bytes(files[piece.file], piece.begin, size), dtype=dtype).float()


def _decoded(path: Path, stored: _Stored, count: int) -> torch.Tensor:
    if path.suffix.lower() != ".gguf":
        dtype = TORCH_TYPES[stored.type]
        data = _bytes(path, stored.begin, count * dtype.itemsize)
        return torch.frombuffer(data, dtype=dtype).float()
    entry = GGML_TYPES[stored.type]
    data = _bytes(path, stored.begin, count // entry.block * entry.block_bytes)
    return dequantize(torch.frombuffer(data, dtype=torch.uint8), stored.type, (count,))


def _bytes(path: Path, begin: int, size: int) -> bytearray:
    with path.open("rb") as file:
        file.seek(begin)
        return bytearray(file.read(size))

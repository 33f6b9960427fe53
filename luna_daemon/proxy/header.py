"""A state dict from nothing but a file's header: what ComfyUI's constructors look at.

Tensors lie on torch's `meta` device: they have a name, a type and a shape, and no values. Small ones and
markers (tokenizers, quantisation) are read, since ComfyUI decides by their values.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import torch

from ...utils.weights.safetensors_header import StoredTensor, read_safetensors_header
from ..gguf_models.reading import is_gguf, read_gguf_outlines
from .errors import NotASkeletonError

# ComfyUI builds a few parameters off the meta device whatever it is told, all of them small, and cannot
# copy a meta tensor into them.
READ_UP_TO_BYTES = 64 * 1024
READ_ALWAYS = (
    ".comfy_quant",
    "scaled_fp8",
    ".scale_input",
    ".input_scale",
    "spiece_model",
    "tekken_model",
    "tokenizer_json",
)
SUFFIXES = (".safetensors", ".sft")
_LENGTH_BYTES = 8

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
    "C64": "complex64",
}
StateDict = dict[str, torch.Tensor]


def read_header_state_dict(file: Path) -> tuple[StateDict, dict[str, str]]:
    """Return a file's state dict on `meta`, with real small tensors, and its metadata.

    Raises:
        NotASkeletonError: It is neither a safetensors nor a GGUF file, or holds an element type that torch does not have.
        ModelFileError: It is missing or damaged.
    """
    if is_gguf(file):
        return read_gguf_outlines(file, READ_UP_TO_BYTES), {}
    if file.suffix.lower() not in SUFFIXES:
        raise NotASkeletonError(
            f"'{file.name}' is neither a safetensors nor a GGUF file, so the daemon does not take it."
        )
    header = read_safetensors_header(file)
    tensors: StateDict = {}
    with file.open("rb") as opened:
        data_start = _LENGTH_BYTES + int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        for name, stored in header.tensors.items():
            dtype = _dtype(file, name, stored)
            nbytes = stored.end - stored.begin
            if nbytes <= READ_UP_TO_BYTES or name.endswith(READ_ALWAYS):
                tensors[name] = _read(opened, data_start + stored.begin, nbytes, stored, dtype)
            else:
                tensors[name] = torch.empty(stored.shape, dtype=dtype, device="meta")
    return tensors, dict(header.metadata)


def _dtype(file: Path, name: str, stored: StoredTensor) -> torch.dtype:
    dtype = getattr(torch, _DTYPES.get(stored.dtype, ""), None)
    if not isinstance(dtype, torch.dtype):
        raise NotASkeletonError(
            f"'{file.name}' stores '{name[:80]}' as {stored.dtype}, which torch {torch.__version__} "
            "does not have."
        )
    return dtype


def _read(
    opened: BinaryIO, start: int, nbytes: int, stored: StoredTensor, dtype: torch.dtype
) -> torch.Tensor:
    if not nbytes:
        return torch.empty(stored.shape, dtype=dtype, device="cpu")
    opened.seek(start)
    return torch.frombuffer(bytearray(opened.read(nbytes)), dtype=dtype).reshape(stored.shape)

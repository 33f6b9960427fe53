"""The bytes of a GGUF tensor → numbers, with torch on the device where the bytes are.

In fp32 the result is equal, bit for bit, to what the `gguf` package computes; in another dtype it is
that, rounded once. It runs whenever a quantised weight is used: no table is built twice, and on a CPU
the work goes block by block through the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from . import decode_iq, decode_k, decode_simple
from .bits import fresh
from .ggml_types import GGML_TYPES, ggml_type

Decoder = Callable[[Tensor, Tensor], None]  # bytes [n, block bytes], fp32 [n, block] to write into

# Types whose elements torch knows.
PLAIN_TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}

DECODERS: dict[str, Decoder] = {
    "Q4_0": decode_simple.q4_0,
    "Q4_1": decode_simple.q4_1,
    "Q5_0": decode_simple.q5_0,
    "Q5_1": decode_simple.q5_1,
    "Q8_0": decode_simple.q8_0,
    "TQ1_0": decode_simple.tq1_0,
    "TQ2_0": decode_simple.tq2_0,
    "MXFP4": decode_simple.mxfp4,
    "NVFP4": decode_simple.nvfp4,
    "Q2_K": decode_k.q2_k,
    "Q3_K": decode_k.q3_k,
    "Q4_K": decode_k.q4_k,
    "Q5_K": decode_k.q5_k,
    "Q6_K": decode_k.q6_k,
    "IQ1_S": decode_iq.iq1_s,
    "IQ1_M": decode_iq.iq1_m,
    "IQ2_XXS": decode_iq.iq2_xxs,
    "IQ2_XS": decode_iq.iq2_xs,
    "IQ2_S": decode_iq.iq2_s,
    "IQ3_XXS": decode_iq.iq3_xxs,
    "IQ3_S": decode_iq.iq3_s,
    "IQ4_NL": decode_iq.iq4_nl,
    "IQ4_XS": decode_iq.iq4_xs,
}

# Numbers that are worked on at once: on a CPU what stays in the cache and is worth a call of torch;
# elsewhere what bounds the memory.
_CPU_CHUNK = 1 << 18
_CPU_CHUNK_PER_THREAD = 1 << 16
_DEVICE_CHUNK = 1 << 26


def can_dequantize(name: str) -> bool:
    """Tell whether `dequantize` knows a type."""
    return name in DECODERS or name in PLAIN_TYPES


def dequantize(
    raw: Tensor, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the numbers that a tensor's bytes stand for.

    Args:
        raw: uint8 of any shape, in order the bytes as they lie in the file; on any device.
        name: The element type, a key of `GGML_TYPES`.
        shape: Of the result; rows of it, or of what it was flattened to, are whole blocks.
        dtype: Of the result. Computed in fp32 and rounded once.

    Returns:
        A new tensor on the device of `raw`.

    Raises:
        InputError: The type is not one that weights are stored in, or the bytes do not fit the shape.
    """
    entry = ggml_type(name)
    if not can_dequantize(name):
        raise InputError(
            f"Weights stored as {name} cannot be used.",
            f"Get the model in another type, one of {', '.join(filter(can_dequantize, GGML_TYPES))}.",
        )
    blocks, rest = divmod(math.prod(shape), entry.block)
    if raw.dtype != torch.uint8 or rest or blocks * entry.block_bytes != raw.numel():
        raise InputError(
            f"{raw.numel()} elements of {raw.dtype} are not the bytes of a {name} tensor of shape "
            f"{list(shape)}.",
            "The file is damaged; download it again.",
        )
    if name in PLAIN_TYPES:
        return _plain(raw, PLAIN_TYPES[name]).to(dtype).view(tuple(shape))
    out = torch.empty((blocks, entry.block), dtype=dtype, device=raw.device)
    _decode(raw.reshape(blocks, entry.block_bytes), DECODERS[name], out)
    return out.view(tuple(shape))


def _plain(raw: Tensor, dtype: torch.dtype) -> Tensor:
    flat = raw.reshape(-1)
    is_aligned = (
        flat.data_ptr() % dtype.itemsize == 0 and flat.storage_offset() % dtype.itemsize == 0
    )
    # A result never shares memory with the bytes, which may be a file's.
    return (
        flat.view(dtype) if is_aligned and flat.is_contiguous() else fresh(flat).view(dtype)
    ).clone()


def _decode(blocks: Tensor, decoder: Decoder, out: Tensor) -> None:
    size = out.shape[1]
    step = _chunk(blocks.device) // size
    is_direct = out.dtype == torch.float32
    scratch = (
        out[:0] if is_direct else out.new_empty((min(step, len(out)), size), dtype=torch.float32)
    )
    for begin in range(0, len(out), step):
        part = blocks[begin : begin + step]
        target = out[begin : begin + step]
        numbers = target if is_direct else scratch[: len(part)]
        decoder(part, numbers)
        if not is_direct:
            target.copy_(numbers)


def _chunk(device: torch.device) -> int:
    if device.type != "cpu":
        return _DEVICE_CHUNK
    return max(_CPU_CHUNK, _CPU_CHUNK_PER_THREAD * torch.get_num_threads())

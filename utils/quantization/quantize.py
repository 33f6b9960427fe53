"""Rows of numbers → the bytes of a GGUF type, with torch on the device where the rows are.

Nothing here starts threads. On a CPU, torch splits the work among its own threads; who quantises parts
of the rows in threads of their own gives each of them one: torch lets go of Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from . import encode_k, encode_simple, ggml_library
from .ggml_types import GGML_TYPES, row_bytes
from .ggml_types import fits as fits

Encoder = Callable[[Tensor, Tensor], None]  # fp32 [n, block], bytes [n, block bytes] to write into

ENCODERS: dict[str, Encoder] = {
    "Q4_0": encode_simple.q4_0,
    "Q4_1": encode_simple.q4_1,
    "Q5_0": encode_simple.q5_0,
    "Q5_1": encode_simple.q5_1,
    "Q8_0": encode_simple.q8_0,
    "Q4_K": encode_k.q4_k,
    "Q5_K": encode_k.q5_k,
    "Q6_K": encode_k.q6_k,
}
PLAIN_TARGETS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# Numbers that are worked on at once: on a CPU what stays in the cache and is worth a call of torch;
# elsewhere what bounds the memory.
_CPU_CHUNK = 1 << 17
_DEVICE_CHUNK = 1 << 24

# The largest magnitude: scales are fp16 numbers, and no weight of a sound model is larger than those.
_LARGEST = {"F32": torch.finfo(torch.float32).max, "BF16": torch.finfo(torch.bfloat16).max}
_LARGEST_HALF = torch.finfo(torch.float16).max


def can_quantize(name: str) -> bool:
    """Tell whether `quantize_rows` can make a type on this machine."""
    if name in ggml_library.TYPES:
        return ggml_library.find() is not None
    return name in ENCODERS or name in PLAIN_TARGETS


def quantize_rows(rows: Tensor, name: str) -> Tensor:
    """Return the bytes of rows in a GGUF type.

    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16 and BF16 come out as from the `gguf` package, byte for byte. Q4_K,
    Q5_K and Q6_K have the quality of ggml's. The types of `ggml_library` are made by ggml, on the CPU.

    Args:
        rows: Numbers of any float dtype, [n, k], on any device; k is a multiple of the type's block.
        name: The type, one that `can_quantize`.

    Returns:
        uint8 [n, bytes a row], on the same device.

    Raises:
        InputError: The type cannot be made, the rows do not fit it, or they hold a number that is
            infinite, not a number, or too large for the type.
    """
    encoder = _encoder(name)
    if rows.dim() != 2 or not rows.is_floating_point():
        raise InputError(
            f"Only rows of decimal numbers can be quantised, not {rows.dtype} {list(rows.shape)}."
        )
    out = torch.empty(
        (rows.shape[0], row_bytes(name, rows.shape[1])), dtype=torch.uint8, device=rows.device
    )
    _, block, block_bytes = GGML_TYPES[name]
    numbers, target = rows.reshape(-1, block), out.view(-1, block_bytes)
    step = (_CPU_CHUNK if rows.device.type == "cpu" else _DEVICE_CHUNK) // block
    for begin in range(0, len(numbers), step):
        part = numbers[begin : begin + step].float()
        _check_range(part, name)
        encoder(part, target[begin : begin + step])
    return out


def _encoder(name: str) -> Encoder:
    if name in ENCODERS:
        return ENCODERS[name]
    if name in PLAIN_TARGETS:
        return _plain(PLAIN_TARGETS[name])
    if name in ggml_library.TYPES:
        library = ggml_library.find()
        if library is not None:
            return _by_ggml(library, name)
        raise InputError(*ggml_library.absence(name))
    known = ", ".join(filter(can_quantize, GGML_TYPES))
    raise InputError(f"Weights cannot be converted to {name[:40]}.", f"Choose one of {known}.")


def _check_range(numbers: Tensor, name: str) -> None:
    least, most = numbers.aminmax()
    limit = _LARGEST.get(name, _LARGEST_HALF)
    if bool((least >= -limit) & (most <= limit)):  # False for what is not a number, too
        return
    if not bool(numbers.isfinite().all()):
        raise InputError(
            f"A weight has values that are infinite or not a number, which {name} cannot hold.",
            "The model is damaged: download it again, or keep this weight as it is.",
        )
    raise InputError(
        f"A weight has values up to {float(numbers.abs().max()):.3g}, too large for {name}.",
        "Choose BF16, which holds numbers of any size.",
    )


def _plain(dtype: torch.dtype) -> Encoder:
    def encode(numbers: Tensor, out: Tensor) -> None:
        out.copy_(numbers.to(dtype).view(torch.uint8))

    return encode


def _by_ggml(library: ggml_library.GgmlLibrary, name: str) -> Encoder:
    def encode(numbers: Tensor, out: Tensor) -> None:
        out.copy_(library.quantize_rows(numbers.cpu().contiguous(), name))

    return encode

"""How weights become bytes: one function for each way to store a tensor.

A tensor is encoded in chunks of whole units, in any order and by several threads. What a unit is depends on
the way: one element where elements stand for themselves, a row where rows are blocks with scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..errors import LunaError, ModelFileError
from ..quantization.dequantize import dequantize
from ..quantization.ggml_types import row_bytes
from ..quantization.microscaling import (
    FORMATS,
    NVFP4_LARGEST,
    TILE_BLOCKS,
    TILE_ROWS,
    dequantize_layer,
    quantize_layer,
)
from ..quantization.quantize import ENCODERS, quantize_rows

# Element type of safetensors → of torch.
TORCH_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Scratch:
    """Buffers of one thread that are used again and again: fresh memory costs more than the arithmetic.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor [count] with whatever was in it before."""
        size = count * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=torch.uint8, device=self._device)
        return buffer[:size].view(dtype)


# Elements [n] as they stand in the source, the tensor's scale, and buffers → bytes.
Encode = Callable[[torch.Tensor, float, Scratch], torch.Tensor]
# Bytes and the tensor's scale → numbers [n] in 32 bits, in memory of their own.
Decode = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to store a tensor.

    Attributes:
        type: The element type, as the container calls it.
        unit: Elements that are encoded together.
        unit_bytes: Bytes that become of them.
        encode: Does it. A chunk's bytes may lie in the scratch's buffers until the next chunk.
        decode: Undoes it, as a loader would.
        largest: The largest magnitude that the type holds; its scale maps the tensor's to it.
        scaled: Is there a scale for the whole tensor, which has to be known first?
        exact: Are the source's bytes copied as they are?
        anywhere: May any device work it out? Each of its steps is rounded alike everywhere.
        format: What ComfyUI calls a layer that is stored so; "" where it need not be told.
        side_type: The element type of a tensor beside it, with a scale for each block; "" for none.
        side_bytes: Bytes of that tensor that belong to a unit; they stand behind those of all units of a chunk.
    """

    type: str
    unit: int
    unit_bytes: int
    encode: Encode = field(compare=False)
    decode: Decode = field(compare=False)
    largest: float = math.inf
    scaled: bool = False
    exact: bool = False
    anywhere: bool = False
    format: str = ""
    side_type: str = ""
    side_bytes: int = 0


def copied(dtype: str, itemsize: int) -> Encoding:
    """Return the encoding that copies bytes."""
    return Encoding(
        dtype,
        1,
        itemsize,
        lambda values, scale, scratch: values.view(torch.uint8),
        _decoded(TORCH_TYPES.get(dtype, torch.uint8)),
        exact=True,
    )


def _decoded(dtype: torch.dtype) -> Decode:
    return lambda data, scale: data.view(dtype).to(torch.float32, copy=True).mul_(scale)


def cast(dtype: str) -> Encoding:
    """Return the encoding that rounds each element to a type, and to its largest value what is larger."""
    wanted = TORCH_TYPES[dtype]
    largest = torch.finfo(wanted).max

    def encode(values: torch.Tensor, scale: float, scratch: Scratch) -> torch.Tensor:
        out = scratch.take("out", values.numel(), wanted)
        if wanted.itemsize == 1:  # torch makes NaN of what an eight-bit float cannot hold
            exact = scratch.take("float", values.numel(), torch.float32)
            values = torch.clamp(exact.copy_(values), -largest, largest, out=exact)
        return out.copy_(values).view(torch.uint8)

    limit = largest if dtype == "F16" else math.inf
    return Encoding(dtype, 1, wanted.itemsize, encode, _decoded(wanted), limit, anywhere=True)


def scaled_float8(dtype: str) -> Encoding:
    """Return the encoding that divides a tensor by a scale, so that eight-bit floats use their whole range.

    The scale is the largest magnitude of the tensor by the largest of the type; the loader multiplies by it.
    The arithmetic is that of ComfyUI's own quantiser, in the source's precision.
    """
    wanted = TORCH_TYPES[dtype]
    largest = torch.finfo(wanted).max

    def encode(values: torch.Tensor, scale: float, scratch: Scratch) -> torch.Tensor:
        out = scratch.take("out", values.numel(), wanted)
        factor = (1.0 / torch.tensor(scale, dtype=torch.float32)).to(values.dtype)
        scaled = scratch.take("scaled", values.numel(), values.dtype)
        torch.mul(values, factor, out=scaled)
        exact = scratch.take("float", values.numel(), torch.float32)
        exact.copy_(scaled).clamp_(-largest, largest)
        return out.copy_(exact).view(torch.uint8)

    decode = _decoded(wanted)
    format_ = str(wanted).removeprefix("torch.")
    return Encoding(
        dtype,
        1,
        wanted.itemsize,
        encode,
        decode,
        largest,
        scaled=True,
        anywhere=True,
        format=format_,
    )


def microscaled(name: str, row: int) -> Encoding:
    """Return the encoding of rows whose blocks have scales of their own, in tiles of rows.

    Args:
        name: A key of microscaling.FORMATS.
        row: Elements of a row, a multiple of the format's block. The tensor has whole tiles of rows.
    """
    is_half = name == "nvfp4"  # two numbers in a byte, and a scale for the whole tensor
    unit = TILE_ROWS * row
    unit_bytes = unit // 2 if is_half else unit
    tiles = -(-row // (FORMATS[name].block * TILE_BLOCKS))
    side_bytes = TILE_ROWS * TILE_BLOCKS * tiles

    def encode(values: torch.Tensor, scale: float, scratch: Scratch) -> torch.Tensor:
        rows = values.view(-1, row)
        parts = quantize_layer(rows.float() if rows.dtype == torch.float64 else rows, name, scale)
        both = (parts["weight"], parts["weight_scale"])
        return torch.cat([part.view(torch.uint8).reshape(-1) for part in both])

    def decode(data: torch.Tensor, scale: float) -> torch.Tensor:
        rows = len(data) // (unit_bytes + side_bytes) * TILE_ROWS
        split = rows // TILE_ROWS * unit_bytes
        weight, side = data[:split].view(rows, -1), data[split:].view(rows, -1)
        parts = {
            "weight": weight if is_half else weight.view(torch.float8_e4m3fn),
            "weight_scale": side.view(torch.float8_e4m3fn) if is_half else side,
            "weight_scale_2": torch.tensor(scale, dtype=torch.float32),
        }
        return dequantize_layer(parts, name, (rows, row)).reshape(-1)

    return Encoding(
        "U8" if is_half else "F8_E4M3",
        unit,
        unit_bytes,
        encode,
        decode,
        NVFP4_LARGEST if is_half else math.inf,
        scaled=is_half,
        format=name,
        side_type="F8_E4M3" if is_half else "U8",
        side_bytes=side_bytes,
    )


def blocks(kind: str, row: int) -> Encoding:
    """Return the encoding of rows as blocks of a GGUF type.

    Args:
        kind: The type.
        row: Elements of a row, a multiple of the type's block.
    """

    def encode(values: torch.Tensor, scale: float, scratch: Scratch) -> torch.Tensor:
        return quantize_rows(values.view(-1, row), kind).view(-1)

    def decode(data: torch.Tensor, scale: float) -> torch.Tensor:
        shape = (len(data) // row_bytes(kind, row), row)
        return dequantize(data, kind, shape).view(-1)

    # Scales are numbers of 16 bits.
    largest = torch.finfo(torch.float16).max
    return Encoding(
        kind,
        row,
        row_bytes(kind, row),
        encode,
        decode,
        largest,
        anywhere=kind in ENCODERS,
    )


def magnitude(name: str, values: torch.Tensor) -> float:
    """Return the largest magnitude of some elements [n].

    Raises:
        ModelFileError: One of them is not a number.
    """
    low, high = torch.aminmax(values)
    largest = max(-float(low), float(high))
    if not math.isfinite(largest):
        raise ModelFileError(
            f"The tensor '{name}' holds values that are no numbers.",
            "The file is damaged; download it again.",
        )
    return largest


def scale_of(largest: float, encoding: Encoding) -> float:
    """Return the scale of a tensor whose largest magnitude is known; 1 for one that is all zero.

    As torch computes it: in 32 bits.
    """
    if not largest:
        return 1.0
    scale = torch.tensor(largest, dtype=torch.float32) / encoding.largest
    return float(scale)


def check_range(name: str, largest: float, encoding: Encoding) -> None:
    """Check that a type holds the values of a tensor.

    Raises:
        LunaError: It does not.
    """
    if not encoding.scaled and largest > encoding.largest:
        raise LunaError(
            f"The tensor '{name}' has values up to {largest:.3g}, and {encoding.type} holds none above "
            f"{encoding.largest:.5g}.",
            "Choose bf16, or another precision.",
        )

"""Taking packed numbers out of bytes, many at a time.

Bytes are worked on eight at a time, as 64-bit integers, and looked up in tables whose entries are eight
bytes. All of it is for little-endian machines, as GGUF files are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

_ONES = 0x0101010101010101


def fresh(part: Tensor) -> Tensor:
    """Return a copy with memory of its own, which can be viewed as wider numbers."""
    return part.clone(memory_format=torch.contiguous_format)


def halves(part: Tensor) -> Tensor:
    """Return fp16 numbers, given as pairs of bytes [n, 2 m], in fp32 [n, m]."""
    return fresh(part).view(torch.float16).float()


def words(part: Tensor) -> Tensor:
    """Return unsigned 16-bit numbers, given as pairs of bytes [n, 2 m], as int32 [n, m]."""
    return fresh(part).view(torch.int16).int() & 0xFFFF


def planes(part: Tensor, bits: int) -> Tensor:
    """Split bytes into fields of 1, 2 or 4 bits, the lowest first.

    Args:
        part: uint8 [..., m], m a multiple of 8.
        bits: Of a field.

    Returns:
        uint8 [..., 8 / bits, m]: all lowest fields, then all next ones.
    """
    fields = 8 // bits
    wide = fresh(part).view(torch.int64)
    out = torch.empty(
        (*wide.shape[:-1], fields, wide.shape[-1]), dtype=torch.int64, device=part.device
    )
    mask = _ONES * ((1 << bits) - 1)
    torch.bitwise_and(wide, mask, out=out[..., 0, :])
    for field in range(1, fields):
        torch.bitwise_and(wide >> (bits * field), mask, out=out[..., field, :])
    return out.view(torch.uint8)


def looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Return the eight bytes that a table has for each index: [..., m] → int8 [..., 8 m]."""
    found = table.index_select(0, index.reshape(-1).int())
    return found.view(*index.shape[:-1], -1).view(torch.int8)


def spread_bits(part: Tensor, shift: int) -> Tensor:
    """Return a byte for each bit, the lowest first: uint8 [..., m] → [..., 8 m], 0 or 1 << shift."""
    return looked_up(_bit_table(shift, part.device), part).view(torch.uint8)


def signs(part: Tensor) -> Tensor:
    """Return -1 for each bit that is set, else 1, the lowest first: uint8 [..., m] → int8 [..., 8 m]."""
    return looked_up(_sign_table(part.device), part)


def byte_table(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return a table for `looked_up`: rows of eight whole numbers from -128 to 127."""
    return torch.tensor(rows, dtype=torch.int8).view(torch.int64).reshape(-1).to(device)


def per_device(make: Callable[[torch.device], Tensor]) -> Callable[[torch.device], Tensor]:
    """Keep what a function makes for each device."""
    return cache(make)


@cache
def _bit_table(shift: int, device: torch.device) -> Tensor:
    return byte_table(
        [[(byte >> bit & 1) << shift for bit in range(8)] for byte in range(256)], device
    )


@per_device
def _sign_table(device: torch.device) -> Tensor:
    return byte_table(
        [[1 - 2 * (byte >> bit & 1) for bit in range(8)] for byte in range(256)], device
    )

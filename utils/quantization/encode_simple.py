"""Numbers → blocks: the types with one scale for a short block.

Each function writes the blocks' bytes [n, block bytes] for fp32 numbers [n, 32], and does the same
operations in the same order as the `gguf` package, so that every byte is the same. A block of zeros
stays zero; one whose scale would be subnormal becomes zeros.

Source: the block structs and reference quantisers of ggml (ggml-common.h, ggml-quants.c).
"""

from __future__ import annotations

import torch
from torch import Tensor

# The largest number below a half: adding it and cutting off rounds halves away from zero.
_ALMOST_HALF = 0.49999997
_GATHER_BITS = (
    0x0102040810204080  # times eight bytes of one bit: the bits side by side in the top byte
)


def q4_0(numbers: Tensor, out: Tensor) -> None:
    """The number with the largest magnitude becomes -8 scales."""
    scale = _largest(numbers) / -8
    write_pairs(_levels(numbers * inverse(scale), 8.5, 15), out[:, 2:])
    write_halves(scale, out[:, :2])


def q5_0(numbers: Tensor, out: Tensor) -> None:
    """The number with the largest magnitude becomes -16 scales."""
    scale = _largest(numbers) / -16
    levels = _levels(numbers * inverse(scale), 16.5, 31)
    write_halves(scale, out[:, :2])
    _write_five_bits(levels, out[:, 2:])


def q4_1(numbers: Tensor, out: Tensor) -> None:
    """Fifteen steps from minimum to maximum."""
    scale, least = _range(numbers, 15)
    write_pairs(_levels((numbers - least) * inverse(scale), 0.5, 15), out[:, 4:])
    write_halves(torch.cat([scale, least], dim=1), out[:, :4])


def q5_1(numbers: Tensor, out: Tensor) -> None:
    """Thirty-one steps from minimum to maximum."""
    scale, least = _range(numbers, 31)
    levels = _levels((numbers - least) * inverse(scale), 0.5, 31)
    write_halves(torch.cat([scale, least], dim=1), out[:, :4])
    _write_five_bits(levels, out[:, 4:])


def q8_0(numbers: Tensor, out: Tensor) -> None:
    """The largest magnitude becomes 127 scales."""
    largest = numbers.abs().amax(dim=1, keepdim=True)
    scale = largest / torch.full_like(largest, 127)
    levels = numbers * inverse(scale)
    levels += torch.copysign(levels.new_full((), _ALMOST_HALF), levels)
    out[:, 2:] = levels.to(torch.int8).view(torch.uint8)
    write_halves(scale, out[:, :2])


def inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 0 where that is no number."""
    return scale.reciprocal().nan_to_num_(0, posinf=0, neginf=0)


def write_halves(values: Tensor, out: Tensor) -> None:
    """Write fp32 numbers [n, m] as fp16 into bytes [n, 2 m]."""
    out.copy_(values.half().view(torch.uint8))


def write_pairs(levels: Tensor, out: Tensor) -> None:
    """Write numbers of 4 bits, uint8 [n, 2 m] with m a multiple of 8, as bytes [n, m].

    The first m are the lower halves.
    """
    wide = levels.view(torch.int64)
    half = wide.shape[1] // 2
    out.copy_((wide[:, :half] | (wide[:, half:] << 4)).view(torch.uint8))


def _largest(numbers: Tensor) -> Tensor:
    """Return the number with the largest magnitude of each block, [n, 1]; the first of equal ones."""
    most, least = numbers.amax(dim=1, keepdim=True), numbers.amin(dim=1, keepdim=True)
    largest = torch.where(most > -least, most, least)
    tied = (most == -least).squeeze(1)
    if bool(tied.any()):  # seldom: looking for the place takes longer than everything else
        blocks = numbers[tied]
        largest[tied] = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    return largest


def _range(numbers: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    least = numbers.amin(dim=1, keepdim=True)
    span = numbers.amax(dim=1, keepdim=True) - least
    # Not divided by a plain number: on a GPU, torch would multiply by its inverse.
    return span / torch.full_like(span, steps), least


def _levels(scaled: Tensor, offset: float, most: int) -> Tensor:
    return scaled.add_(offset).clamp_(0, most).to(torch.uint8)


def _write_five_bits(levels: Tensor, out: Tensor) -> None:
    bits = (levels >> 4).view(torch.int64) * _GATHER_BITS
    out[:, :4] = (bits >> 56).to(torch.uint8)
    write_pairs(levels & 15, out[:, 4:])

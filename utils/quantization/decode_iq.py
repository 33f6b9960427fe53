"""Blocks → numbers: the IQ types. Numbers are entries of tables: singly, or in patterns of four or eight.

Each function writes fp32 numbers [n, block] for blocks of bytes [n, block bytes], and does the same
operations in the same order as the `gguf` package, so that every bit is the same.

Source: the block structs of ggml (ggml-common.h).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bits import (
    byte_table,
    fresh,
    halves,
    looked_up,
    per_device,
    signs,
    spread_bits,
    words,
)
from .iq_patterns import PATTERNS, patterns

# The sixteen numbers of IQ4_NL and IQ4_XS, denser around zero.
NON_LINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_DELTA = 0.125


def iq4_nl(blocks: Tensor, out: Tensor) -> None:
    """Scale fp16, 16 bytes of two table entries each."""
    out.view(-1, 2, 16).copy_(_non_linear(blocks[:, 2:]).transpose(1, 2))
    out.mul_(halves(blocks[:, :2]))


def iq4_xs(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit, eight scales' upper 2 bits (2 bytes) and lower 4 (4 bytes), 128 bytes of two entries."""
    groups = out.view(-1, 8, 2, 16)
    groups.copy_(_non_linear(blocks[:, 8:]).view(-1, 8, 16, 2).transpose(2, 3))
    steps = torch.arange(0, 16, 2, dtype=torch.int32, device=blocks.device)
    low = torch.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], dim=2).flatten(1)
    scales = (((words(blocks[:, 2:4]) >> steps & 3) << 4) | low) - 32
    groups.mul_((halves(blocks[:, :2]) * scales)[:, :, None, None])


def _non_linear(part: Tensor) -> Tensor:
    """Return int8 [n, m, 2] for bytes [n, m]: the entries of lower and upper half."""
    return looked_up(_non_linear_pairs(part.device), part).view(*part.shape, 8)[..., :2]


@per_device
def _non_linear_pairs(device: torch.device) -> Tensor:
    values = NON_LINEAR
    return byte_table(
        [[values[byte & 15], values[byte >> 4], 0, 0, 0, 0, 0, 0] for byte in range(256)], device
    )


def iq2_xxs(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; eight times: four patterns (1 byte each), four sets of signs (7 bits), scale (4 bits)."""
    groups = fresh(blocks[:, 2:]).view(-1, 8, 8)
    scales, sign_bits = _scale_and_signs(groups[..., 4:].flatten(1))
    scale = halves(blocks[:, :2]) * (scales.float() + 0.5) * 0.25
    _patterns_with_signs("IQ2_XXS", groups[..., :4].flatten(1), sign_bits, scale, out)


def iq3_xxs(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; 64 patterns of four numbers; eight times: four sets of signs (7 bits), scale (4 bits)."""
    scales, sign_bits = _scale_and_signs(blocks[:, 66:98])
    scale = halves(blocks[:, :2]) * (scales.float() + 0.5) * 0.5
    _patterns_with_signs("IQ3_XXS", blocks[:, 2:66], sign_bits, scale, out)


def _scale_and_signs(part: Tensor) -> tuple[Tensor, Tensor]:
    """Split eight 32-bit words: [n, 32] → scales [n, 8], the bytes of the signs [n, 32].

    A set of signs is 7 bits long; the eighth bit makes the number of minus signs even.
    """
    word = fresh(part).view(torch.int32).long()
    steps = torch.arange(0, 28, 7, device=part.device)
    sets = (word.unsqueeze(2) >> steps & 127).flatten(1)
    return word >> 28 & 15, _with_parity(part.device).index_select(0, sets.view(-1)).view(
        sets.shape
    )


@per_device
def _with_parity(device: torch.device) -> Tensor:
    bytes_ = [bits | (bits.bit_count() & 1) << 7 for bits in range(128)]
    return torch.tensor(bytes_, dtype=torch.uint8).to(device)


def iq2_xs(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; 32 times: pattern (9 bits) and signs (7 bits); 16 scales of 4 bits."""
    word = words(blocks[:, 2:66])
    sign_bits = _with_parity(blocks.device).index_select(0, (word >> 9).view(-1)).view(word.shape)
    scale = halves(blocks[:, :2]) * (_nibbles(blocks[:, 66:]).float() + 0.5) * 0.25
    _patterns_with_signs("IQ2_XS", word & 511, sign_bits, scale, out)


def iq2_s(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; 32 lower bytes of patterns, 32 bytes of signs, 8 bytes of upper bits, 16 scales."""
    upper = torch.stack([blocks[:, 66:74] >> shift & 3 for shift in (0, 2, 4, 6)], dim=2).flatten(1)
    index = blocks[:, 2:34].int() | (upper.int() << 8)
    scale = halves(blocks[:, :2]) * (_nibbles(blocks[:, 74:]).float() + 0.5) * 0.25
    _patterns_with_signs("IQ2_S", index, blocks[:, 34:66], scale, out)


def iq3_s(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; 64 lower bytes of patterns, 8 bytes of upper bits, 32 bytes of signs, 8 scales."""
    index = blocks[:, 2:66].int() | (spread_bits(blocks[:, 66:74], shift=0).int() << 8)
    scale = halves(blocks[:, :2]) * (1 + 2 * _nibbles(blocks[:, 106:]))
    _patterns_with_signs("IQ3_S", index, blocks[:, 74:106], scale, out)


def _patterns_with_signs(
    kind: str, index: Tensor, sign_bits: Tensor, scale: Tensor, out: Tensor
) -> None:
    """Write scale * pattern * sign.

    Args:
        kind: Whose patterns.
        index: Of the patterns, [n, 256 / pattern length].
        sign_bits: uint8 [n, 32], a bit for each number.
        scale: fp32 [n, groups].
        out: fp32 [n, 256].
    """
    groups = out.view(*scale.shape, -1)
    length = PATTERNS[kind].length
    found = looked_up(patterns(kind, out.device), index).view(len(out), -1, 8)[..., :length]
    groups.copy_(found.reshape(groups.shape))
    groups.mul_(scale.unsqueeze(2)).mul_(signs(sign_bits).view(groups.shape))


def _nibbles(part: Tensor) -> Tensor:
    """Return lower and upper half of each byte in turn: [n, m] → [n, 2 m]."""
    return torch.stack([part & 15, part >> 4], dim=2).flatten(1)


def iq1_s(blocks: Tensor, out: Tensor) -> None:
    """fp16 unit; 32 lower bytes of patterns; eight times: 4 x 3 upper bits, scale (3), delta's sign."""
    word = words(blocks[:, 34:50])
    scale = halves(blocks[:, :2]) * (2 * (word >> 12 & 7) + 1)
    steps = torch.arange(0, 12, 3, dtype=torch.int32, device=blocks.device)
    index = blocks[:, 2:34].int() | ((word.unsqueeze(2) >> steps & 7).flatten(1) << 8)
    is_minus = (word >> 15 & 1).repeat_interleave(4, dim=1)
    _patterns_with_delta(index, is_minus, scale, out)


def iq1_m(blocks: Tensor, out: Tensor) -> None:
    """32 lower bytes of patterns, 16 bytes of upper bits and delta's sign, 16 scales of 3 bits.

    The fp16 unit is in the upper four bits of the scales' four words.
    """
    word = words(blocks[:, 48:56])
    parts = [(word[:, i : i + 1] >> 12) << (4 * i) for i in range(4)]
    unit = (parts[0] | parts[1] | parts[2] | parts[3]).short().view(torch.float16).float()
    steps = torch.arange(0, 12, 3, dtype=torch.int32, device=blocks.device)
    scale = unit * (2 * (word.unsqueeze(2) >> steps & 7).flatten(1) + 1)
    upper = _nibbles(blocks[:, 32:48]).int()
    index = blocks[:, :32].int() | ((upper & 7) << 8)
    _patterns_with_delta(index, upper >> 3, scale, out)


def _patterns_with_delta(index: Tensor, is_minus: Tensor, scale: Tensor, out: Tensor) -> None:
    """Write scale * (pattern ± delta), for 32 patterns of eight in a block."""
    eights = out.view(-1, 32, 8)
    eights.copy_(looked_up(patterns("IQ1_S", out.device), index).view(eights.shape))
    eights.add_((_DELTA - 2 * _DELTA * is_minus.float()).unsqueeze(2))
    groups = out.view(*scale.shape, -1)
    groups.mul_(scale.unsqueeze(2))

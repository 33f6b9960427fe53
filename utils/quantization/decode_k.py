"""Blocks → numbers: the K types. A block is 256 numbers in 8 or 16 groups, each with a scale of its own.

The groups' scales (and minima) are small whole numbers, in units of one fp16 number for the block. Each
function writes fp32 numbers [n, 256] for blocks of bytes [n, block bytes], and does the same operations
in the same order as the `gguf` package, so that every bit is the same.

Source: the block structs of ggml (ggml-common.h), and the pull request that introduced these types
(ggml-org/llama.cpp 1684).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bits import halves, planes


def q2_k(blocks: Tensor, out: Tensor) -> None:
    """16 bytes of scale and minimum, 64 bytes of four numbers, two fp16 units."""
    unit, unit_min = halves(blocks[:, 80:82]), halves(blocks[:, 82:84])
    scales = unit * (blocks[:, :16] & 15)
    minima = unit_min * (blocks[:, :16] >> 4)
    groups = out.view(-1, 16, 16)
    groups.copy_(planes(blocks[:, 16:80].reshape(-1, 2, 32), 2).view(groups.shape))
    groups.mul_(scales.unsqueeze(2)).sub_(minima.unsqueeze(2))


def q3_k(blocks: Tensor, out: Tensor) -> None:
    """32 bytes of highest bits, 64 of four lower parts, 12 bytes of scales with 6 bits, fp16 unit.

    A number is 4 less where its highest bit is not set.
    """
    low = planes(blocks[:, 96:104], 4).flatten(1)
    high = planes(blocks[:, 104:108].repeat(1, 2), 2).view(-1, 4, 2, 4)[:, :, 0].flatten(1)
    scales = halves(blocks[:, 108:110]) * ((low | (high << 4)).view(torch.int8) - 32)
    groups = out.view(-1, 16, 16)
    groups.copy_(planes(blocks[:, 32:96].reshape(-1, 2, 32), 2).view(groups.shape))
    groups.add_(planes(blocks[:, :32], 1).view(groups.shape) << 2).sub_(4)
    groups.mul_(scales.unsqueeze(2))


def q4_k(blocks: Tensor, out: Tensor) -> None:
    """Two fp16 units, 12 bytes of scales and minima with 6 bits, 128 bytes of two numbers each."""
    _scale_with_minima(blocks, planes(blocks[:, 16:].reshape(-1, 4, 32), 4), out)


def q5_k(blocks: Tensor, out: Tensor) -> None:
    """As Q4_K, with 32 bytes of highest bits before the numbers."""
    low = planes(blocks[:, 48:].reshape(-1, 4, 32), 4).view(-1, 8, 32)
    high = planes(blocks[:, 16:48], 1)
    _scale_with_minima(blocks, low | (high << 4), out)


def _scale_with_minima(blocks: Tensor, numbers: Tensor, out: Tensor) -> None:
    scales, minima = scales_and_minima(blocks[:, 4:16])
    groups = out.view(-1, 8, 32)
    groups.copy_(numbers.view(groups.shape))
    groups.mul_((halves(blocks[:, :2]) * scales).unsqueeze(2))
    groups.sub_((halves(blocks[:, 2:4]) * minima).unsqueeze(2))


def scales_and_minima(part: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack the eight scales and eight minima of 6 bits in the 12 bytes of Q4_K and Q5_K.

    Bytes 0-3 and 4-7 hold the first four scales and minima in their lower six bits; bytes 8-11 hold the
    lower four bits of the last four scales and minima, whose upper two are the upper bits of bytes 0-7.
    """
    first, second, both = part[:, :4], part[:, 4:8], part[:, 8:]
    scales = torch.cat([first & 63, (both & 15) | ((first >> 2) & 48)], dim=1)
    minima = torch.cat([second & 63, (both >> 4) | ((second >> 2) & 48)], dim=1)
    return scales, minima


def q6_k(blocks: Tensor, out: Tensor) -> None:
    """128 bytes of lower halves, 64 of upper quarters, 16 signed scales, fp16 unit; 32 stands for zero."""
    scales = halves(blocks[:, 208:210]) * blocks[:, 192:208].view(torch.int8)
    low = planes(blocks[:, :128].reshape(-1, 2, 64), 4).view(-1, 256)
    high = planes(blocks[:, 128:192].reshape(-1, 2, 32), 2).view(-1, 256)
    groups = out.view(-1, 16, 16)
    groups.copy_((low | (high << 4)).view(groups.shape))
    groups.sub_(32).mul_(scales.unsqueeze(2))

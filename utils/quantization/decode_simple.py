"""Blocks → numbers: the types with one scale for a short block, and the four-bit floats.

Each function writes fp32 numbers [n, block] for blocks of bytes [n, block bytes], and does the same
operations in the same order as the `gguf` package, so that every bit is the same.

Source: the block structs of ggml (ggml-common.h), and the OCP Microscaling Formats specification 1.0
for MXFP4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .bits import byte_table, fresh, halves, looked_up, per_device, planes, spread_bits

# The sixteen numbers of a four-bit float (e2m1), doubled.
E2M1_DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def q4_0(blocks: Tensor, out: Tensor) -> None:
    """Scale fp16, 16 bytes of two numbers each; the value 8 stands for zero."""
    out.copy_(planes(blocks[:, 2:], 4).flatten(1))
    out.sub_(8).mul_(halves(blocks[:, :2]))


def q4_1(blocks: Tensor, out: Tensor) -> None:
    """Scale and minimum fp16, 16 bytes of two numbers each."""
    out.copy_(planes(blocks[:, 4:], 4).flatten(1))
    out.mul_(halves(blocks[:, :2])).add_(halves(blocks[:, 2:4]))


def q5_0(blocks: Tensor, out: Tensor) -> None:
    """Scale fp16, 32 highest bits, 16 bytes of lower bits; the value 16 stands for zero."""
    out.copy_(_five_bits(blocks[:, 2:]))
    out.sub_(16).mul_(halves(blocks[:, :2]))


def q5_1(blocks: Tensor, out: Tensor) -> None:
    """Scale and minimum fp16, 32 highest bits, 16 bytes of lower bits."""
    out.copy_(_five_bits(blocks[:, 4:]))
    out.mul_(halves(blocks[:, :2])).add_(halves(blocks[:, 2:4]))


def _five_bits(part: Tensor) -> Tensor:
    return planes(part[:, 4:], 4).flatten(1) | spread_bits(part[:, :4], shift=4)


def q8_0(blocks: Tensor, out: Tensor) -> None:
    """Scale fp16, 32 signed bytes."""
    out.copy_(blocks[:, 2:].view(torch.int8))
    out.mul_(halves(blocks[:, :2]))


def tq1_0(blocks: Tensor, out: Tensor) -> None:
    """-1, 0, 1: five to a byte as digits of base 3 (48 bytes), four to a byte (4 bytes), scale fp16."""
    digits = torch.cat(
        [
            _ternary(blocks[:, :32], 5),
            _ternary(blocks[:, 32:48], 5),
            _ternary(blocks[:, 48:52], 4),
        ],
        dim=1,
    )
    out.copy_(digits)
    out.sub_(1).mul_(halves(blocks[:, 52:]))


def _ternary(part: Tensor, count: int) -> Tensor:
    # The byte holds the digits as a fraction of 256; multiplied by 3^i it starts with digit i.
    shifted = torch.stack([part * 3**digit for digit in range(count)], dim=1)
    return ((shifted.short() * 3) >> 8).flatten(1)


def tq2_0(blocks: Tensor, out: Tensor) -> None:
    """-1, 0, 1 (and 2): four to a byte (64 bytes, in two halves), scale fp16."""
    out.copy_(planes(blocks[:, :64].reshape(-1, 2, 32), 2).flatten(1))
    out.sub_(1).mul_(halves(blocks[:, 64:]))


def mxfp4(blocks: Tensor, out: Tensor) -> None:
    """Scale as a power of two (e8m0), 16 bytes of two e2m1 numbers each."""
    pairs = looked_up(_e2m1_pairs(blocks.device), blocks[:, 1:])
    numbers = pairs.reshape(-1, 16, 8)
    out.view(-1, 2, 16).copy_(numbers[..., :2].transpose(1, 2))
    out.mul_(_half_powers(blocks.device).index_select(0, blocks[:, 0].int()).unsqueeze(1))


def nvfp4(blocks: Tensor, out: Tensor) -> None:
    """Four groups of 16: their scales (e4m3 without a sign), then 8 bytes of two e2m1 numbers each."""
    n = blocks.shape[0]
    pairs = looked_up(_e2m1_pairs(blocks.device), blocks[:, 4:])
    numbers = pairs.view(n, 4, 8, 8)
    groups = out.view(n, 4, 2, 8)
    groups.copy_(numbers[..., :2].transpose(2, 3))
    scales = _e4m3_halves(blocks.device).index_select(0, fresh(blocks[:, :4]).view(-1).int())
    groups.mul_(scales.view(n, 4, 1, 1))


@per_device
def _e2m1_pairs(device: torch.device) -> Tensor:
    values = E2M1_DOUBLED
    return byte_table(
        [[values[byte & 15], values[byte >> 4], 0, 0, 0, 0, 0, 0] for byte in range(256)], device
    )


@per_device
def _half_powers(device: torch.device) -> Tensor:
    """Return half of what each e8m0 byte says, since the numbers are doubled: 2 ^ (byte - 128)."""
    return torch.tensor([2.0 ** (byte - 128) for byte in range(256)], dtype=torch.float32).to(
        device
    )


@per_device
def _e4m3_halves(device: torch.device) -> Tensor:
    """Return half of what each e4m3 byte says without its sign; 0x7F is zero."""
    values = []
    for byte in range(256):
        exponent, fraction = byte >> 3 & 15, byte & 7
        value = fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
        values.append(0.0 if byte == 0x7F else value / 2)
    return torch.tensor(values, dtype=torch.float32).to(device)

"""Numbers → blocks: Q4_K, Q5_K and Q6_K.

A block is 256 numbers in groups. For each group a search finds the scale (and the minimum, in Q4_K and
Q5_K) with the least weighted squared error: round the numbers with a trial scale; for the whole numbers
that come out, the best scale and minimum are those of a weighted linear regression; keep the trial
whose error is smallest. The groups' scales and minima are then rounded to 6 bits (8 in Q6_K), in units
of one fp16 number for the block, and the numbers are rounded anew with what they have become.

Trials and weights are those of ggml's reference quantiser, so the results have its quality; they are
not its bytes everywhere, because sums are taken in another order and errors are worked out from the sums.

All groups are searched at once, one group a column: sums over a group then run over whole rows.

Source: the block structs of ggml (ggml-common.h), its reference quantiser (ggml-quants.c), and the
pull request that introduced these types (ggml-org/llama.cpp 1684).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .encode_simple import inverse, write_halves

_NO_SPREAD = 1e-6  # below it, the spread of a group's levels is noise
_SCALE_LEVELS = 63  # of the scales and minima in Q4_K and Q5_K


class _Search(NamedTuple):
    """Trial scales of a type: (levels + offset) / range of the group, for each offset."""

    levels: int
    offsets: tuple[float, ...]


_Q4_K = _Search(15, tuple(-1 + 0.1 * step for step in range(21)))
_Q5_K = _Search(31, tuple(-0.5 + 0.1 * step for step in range(16)))
# Trial scales of Q6_K: (32 + offset) / largest number, for each offset.
_Q6_OFFSETS = (0.0, *(0.1 * step for step in range(-9, 10) if step))


def q4_k(numbers: Tensor, out: Tensor) -> None:
    """Eight groups of 32 with scale and minimum; 4 bits a number."""
    levels = _with_minima(numbers, _Q4_K, out)
    _write_nibbles(levels, out[:, 16:])


def q5_k(numbers: Tensor, out: Tensor) -> None:
    """As Q4_K, with 5 bits a number: the highest of all numbers come first."""
    levels = _with_minima(numbers, _Q5_K, out)
    high = (levels >> 4).view(-1, 8, 32)
    weights_of_bits = 1 << torch.arange(8, dtype=torch.uint8, device=levels.device)
    out[:, 16:48] = (high * weights_of_bits[:, None]).sum(dim=1, dtype=torch.uint8)
    _write_nibbles(levels & 15, out[:, 48:])


def _write_nibbles(levels: Tensor, out: Tensor) -> None:
    """Write levels [n, 256] of 4 bits: each 64 of them become 32 bytes, the first 32 the lower halves."""
    quarters = levels.view(-1, 4, 2, 32)
    out.view(-1, 4, 32).copy_(quarters[:, :, 0] | (quarters[:, :, 1] << 4))


def _write_scales(scales: Tensor, depths: Tensor, out: Tensor) -> None:
    """Pack eight scales and eight depths of 6 bits, uint8 [n, 8], into 12 bytes."""
    out[:, :4] = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    out[:, 4:8] = depths[:, :4] | ((depths[:, 4:] >> 4) << 6)
    out[:, 8:] = (scales[:, 4:] & 15) | ((depths[:, 4:] & 15) << 4)


def _with_minima(numbers: Tensor, search: _Search, out: Tensor) -> Tensor:
    """Write the first 16 bytes of Q4_K or Q5_K blocks, and return the numbers' levels, uint8 [n, 256]."""
    n = len(numbers)
    columns = numbers.view(-1, 32).t().contiguous()
    scale, depth = (part.view(n, 8) for part in _best_lines(columns, search))
    units = torch.cat([_unit(scale), _unit(depth)], dim=1)
    scale_levels = _small(scale, units[:, :1])
    depth_levels = _small(depth, units[:, 1:])
    halves = units.half()
    out[:, :4] = halves.view(torch.uint8)
    _write_scales(scale_levels, depth_levels, out[:, 4:16])
    units = halves.float()
    scale = (units[:, :1] * scale_levels).view(-1)
    depth = (units[:, 1:] * depth_levels).view(-1)
    levels = (columns + depth).mul_(inverse(scale)).round_().clamp_(0, search.levels)
    return levels.to(torch.uint8).t().reshape(n, 256)


def _unit(values: Tensor) -> Tensor:
    most = values.amax(dim=1, keepdim=True)
    return most / torch.full_like(most, _SCALE_LEVELS)


def _small(values: Tensor, unit: Tensor) -> Tensor:
    """Return values that are not negative in units, rounded to 6 bits."""
    return (values * inverse(unit)).round_().clamp_(0, _SCALE_LEVELS).to(torch.uint8)


class _Totals(NamedTuple):
    """Sums over each group that no trial changes. w are the weights, x the numbers."""

    w: Tensor
    wx: Tensor


class _Sums(NamedTuple):
    """Sums over each group for the levels l of a trial."""

    wl: Tensor
    wll: Tensor
    wxl: Tensor


def _best_lines(columns: Tensor, search: _Search) -> tuple[Tensor, Tensor]:
    """Find scale and depth for each group, so that level * scale - depth is close to its numbers.

    Args:
        columns: fp32 [32, n], a group a column.
        search: Which scales to try.

    Returns:
        Scale and depth (minus the minimum), fp32 [n]; the depth is not negative.
    """
    mean_square = _added_up(columns.square()) / 32
    weights = columns.abs().add_(mean_square.sqrt_())
    weighted = weights * columns
    totals = _Totals(_added_up(weights.clone()), _added_up(weighted.clone()))
    most = columns.amax(dim=0)
    least = columns.amin(dim=0).clamp_(max=0)  # a minimum above zero cannot be stored
    # The first trial is no regression: it spans the numbers and keeps their minimum.
    per_level = inverse(most - least).mul_(search.levels)
    scale = inverse(per_level)
    buffers = columns.new_empty((3, *columns.shape))
    sums = _sums(columns, weights, weighted, (least, per_level, search.levels), buffers)
    error = _error(scale, least, sums, totals)
    for offset in search.offsets:
        per_level = inverse(most - least).mul_(search.levels + offset)
        sums = _sums(columns, weights, weighted, (least, per_level, search.levels), buffers)
        new_scale, new_least = _regression(sums, totals)
        new_error = _error(new_scale, new_least, sums, totals)
        is_better = new_error < error
        error = torch.where(is_better, new_error, error)
        scale = torch.where(is_better, new_scale, scale)
        # The trials that follow start from this minimum.
        least = torch.where(is_better, new_least, least)
    return scale, 0 - least  # never minus zero


def _sums(
    columns: Tensor,
    weights: Tensor,
    weighted: Tensor,
    trial: tuple[Tensor, Tensor, int],
    buffers: Tensor,
) -> _Sums:
    least, per_level, most = trial
    levels = torch.sub(columns, least, out=buffers[2]).mul_(per_level).round_().clamp_(0, most)
    torch.mul(weights, levels, out=buffers[0])
    torch.mul(buffers[0], levels, out=buffers[1])
    levels.mul_(weighted)
    return _Sums(*_added_up(buffers).clone())


def _added_up(columns: Tensor) -> Tensor:
    """Return the sum of each column: [..., 2^m, n] → [..., n]. Overwrites the columns.

    Not torch's sum, whose order depends on how many columns there are: a block's bytes must not depend
    on the blocks beside it.
    """
    half = columns.shape[-2]
    while half > 1:
        half //= 2
        columns[..., :half, :].add_(columns[..., half : 2 * half, :])
    return columns[..., 0, :]


def _regression(sums: _Sums, totals: _Totals) -> tuple[Tensor, Tensor]:
    """Return the best scale and minimum for levels, and infinity where the levels are all the same."""
    wl, wll, wxl = sums
    spread = totals.w * wll
    determinant = spread - wl.square()
    scale = (totals.w * wxl - totals.wx * wl) / determinant
    least = (wll * totals.wx - wl * wxl) / determinant
    is_above = least > 0
    scale = torch.where(is_above, wxl / wll, scale)
    scale.masked_fill_(determinant <= _NO_SPREAD * spread, torch.inf)
    return scale, least.masked_fill_(is_above, 0)


def _error(scale: Tensor, least: Tensor, sums: _Sums, totals: _Totals) -> Tensor:
    """Return the weighted squared error of each group, but for the sum of w x x, which never changes."""
    wl, wll, wxl = sums
    of_scale = scale * wll + 2 * (least * wl - wxl)
    return scale * of_scale + least * (least * totals.w - 2 * totals.wx)


def q6_k(numbers: Tensor, out: Tensor) -> None:
    """Sixteen groups of 16 with a scale and no minimum; 6 bits a number, of which 32 stands for zero."""
    n = len(numbers)
    columns = numbers.view(-1, 16).t().contiguous()
    scale = _best_scales(columns).view(n, 16)
    exact = 0 - _largest(scale, 1) / 128
    unit = exact.half().float()
    scale_levels = (scale * inverse(exact)).round_().clamp_(-128, 127)
    scale = (unit * scale_levels).view(-1)
    levels = (columns * inverse(scale)).round_().clamp_(-32, 31).add_(32)
    levels = levels.to(torch.uint8).t().reshape(n, 2, 4, 32)
    low, high = levels & 15, levels >> 4
    out[:, :128].view(n, 2, 64).copy_((low[:, :, :2] | (low[:, :, 2:] << 4)).flatten(2))
    fields = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=numbers.device)
    out[:, 128:192].view(n, 2, 32).copy_((high << fields[:, None]).sum(dim=2, dtype=torch.uint8))
    out[:, 192:208] = scale_levels.to(torch.int8).view(torch.uint8)
    write_halves(unit, out[:, 208:])


def _largest(numbers: Tensor, dim: int) -> Tensor:
    """Return the number with the largest magnitude, with its sign."""
    most, least = numbers.amax(dim=dim, keepdim=True), numbers.amin(dim=dim, keepdim=True)
    return torch.where(most > -least, most, least)


def _best_scales(columns: Tensor) -> Tensor:
    """Find a scale for each group, so that level * scale is close to its numbers.

    Args:
        columns: fp32 [16, n], a group a column.

    Returns:
        fp32 [n], of either sign: the number with the largest magnitude gets a level near -32.
    """
    weights = columns.square()
    weighted = weights * columns
    largest = _largest(columns, 0).squeeze(0)
    per_largest = inverse(largest)
    scale = torch.zeros_like(largest)
    best = torch.zeros_like(largest)
    products = columns.new_empty((2, *columns.shape))
    for offset in _Q6_OFFSETS:
        levels = (columns * (per_largest * -(32 + offset))).round_().clamp_(-32, 31)
        torch.mul(weighted, levels, out=products[1])
        torch.mul(levels.square_(), weights, out=products[0])
        wll, wxl = _added_up(products)
        new_scale = wxl * inverse(wll)
        gain = new_scale * wxl
        is_better = gain > best
        best = torch.where(is_better, gain, best)
        scale = torch.where(is_better, new_scale, scale)
    return scale

"""A weight with all its LoRAs, made in one pass: a block of rows is widened, added to and narrowed in the cache.

The numbers are those of the single steps: the weight as a whole in single precision, then every LoRA as
merge_math.py adds it, then the result in the weight's element type. But nothing in between is ever as large as
the weight, so only the weight is read and only the result is written. For weights on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .merge_math import BLOCKS, Blocks, Term, Workspace

WORK_DTYPE = torch.float32  # that sums are made in
# Element types that a result is rounded to as torch does it, by the number alone and not by its place.
_NARROW = (torch.float16, torch.bfloat16, torch.float32)


class Addend(NamedTuple):
    """A term, and whether it may be added in the fast way."""

    term: Term
    fast: bool


def can_merge(weight: torch.Tensor, addends: Sequence[Addend]) -> bool:
    """Can `merged` do it? All terms must fit the weight in the same way."""
    shapes = {(term.up.shape[0], term.down.shape[1]) for term, _ in addends}
    return (
        len(shapes) == 1
        and weight.dtype in _NARROW
        and weight.is_contiguous()
        and all(_is_whole(term) and term.fits(weight) for term, _ in addends)
    )


def _is_whole(term: Term) -> bool:
    return term.up.dtype == WORK_DTYPE and term.up.is_contiguous() and term.down.is_contiguous()


def merged(
    weight: torch.Tensor, addends: Sequence[Addend], workspace: Workspace, blocks: Blocks = BLOCKS
) -> torch.Tensor:
    """Return the weight with all terms added, one after the other, in its own element type.

    Args:
        weight: Is not changed.
        addends: At least one; `can_merge` has said that they fit.
        workspace: Where the sums are made.
        blocks: How many rows are made at a time.
    """
    result = torch.empty_like(weight)
    first = addends[0].term
    rows, columns = first.up.shape[0], first.down.shape[1]
    source, target = weight.view(rows, columns), result.view(rows, columns)
    if all(fast for _, fast in addends):
        addends = [Addend(joined([term for term, _ in addends]), fast=True)]
    step = max(_step(addend, blocks) for addend in addends)
    with workspace.lend(2 * step, columns, WORK_DTYPE) as memory:
        for start in range(0, rows, step):
            part = slice(start, start + step)
            work = memory[:step][: min(step, rows - start)]
            work.copy_(source[part])
            for addend in addends:
                _add(work, addend, part, memory[step:])
            target[part].copy_(work)
    return result


def joined(terms: Sequence[Term]) -> Term:
    """Return one term for several: their matrices side by side, the scales in them."""
    if len(terms) == 1:
        return terms[0]
    up = torch.cat([term.up * term.scale for term in terms], dim=1)
    return Term(up, torch.cat([term.down for term in terms]), 1.0)


def _step(addend: Addend, blocks: Blocks) -> int:
    (rows, rank), columns = addend.term.up.shape, addend.term.down.shape[1]
    if addend.fast:  # how it rounds is its own affair
        return blocks.fitting(rows, columns, WORK_DTYPE)
    return blocks.rows_for(rows, rank, columns, WORK_DTYPE)


def _add(work: torch.Tensor, addend: Addend, part: slice, memory: torch.Tensor) -> None:
    up, down, scale = addend.term
    if addend.fast:
        work.addmm_(up[part], down, alpha=scale)
        return
    product = memory[: work.shape[0]]
    torch.mm(up[part], down, out=product)
    product.mul_(scale)
    work.add_(product)

"""Adding a LoRA to a weight: the product of its two matrices, scaled.

`add_exact` rounds where ComfyUI rounds, in the same order, so that its result is ComfyUI's bit for bit. Only
the memory differs: ComfyUI takes fresh memory for the product and once more for the scaled one, and fresh
memory costs more than the arithmetic, for the system clears every page at its first use. Here both are
made in place, in memory that is used again for the next LoRA and the next layer.

`add_fast` makes product, scaling and addition in one pass, which rounds once instead of three times. In
a weight of half precision, after the cast back, under one element in a thousand is another one, and
by no more than the last digit (tests/utils/loras/test_merge_math.py).

For weights on the CPU. Elsewhere torch keeps freed memory itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

WORKSPACE_BYTES = 64 * 2**20  # the largest layer of SDXL in single precision fits
BLOCK_BYTES = 3 * 2**19  # of a product; larger leaves the cache, smaller is too many calls
_ROWS_STEP = 16  # blocks begin where the library of matrix products would begin a tile, and aligned


class Term(NamedTuple):
    """What a LoRA adds to a weight of `rows` x `columns`, whatever its shape: scale x up x down.

    `up` is [rows, rank], `down` is [rank, columns]; both are of the element type of the product.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float

    def fits(self, weight: torch.Tensor) -> bool:
        """Can this be added to a weight?"""
        up, down = self.up, self.down
        return (
            up.dim() == down.dim() == 2
            and up.shape[1] == down.shape[0]
            and up.shape[0] * down.shape[1] == weight.numel()
            and up.dtype == down.dtype
            and all(tensor.device.type == "cpu" for tensor in (weight, up, down))
            and not any(tensor.requires_grad for tensor in (weight, up, down))
        )


class Workspace:
    """Memory for one product at a time; it grows to the largest one and stays until it is freed.

    A product that is larger than the bound, or is made while another one is, gets memory of its own.

    Args:
        max_bytes: The bound.
    """

    def __init__(self, max_bytes: int = WORKSPACE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._memory: torch.Tensor | None = None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """How much is held."""
        memory = self._memory
        return 0 if memory is None else memory.nbytes

    def free(self) -> None:
        """Give the memory back."""
        self._memory = None

    @contextmanager
    def lend(self, rows: int, columns: int, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        """Lend a matrix with anything in it, as long as this lasts."""
        nbytes = rows * columns * dtype.itemsize
        if nbytes > self.max_bytes or not self._lock.acquire(blocking=False):
            yield torch.empty((rows, columns), dtype=dtype)
            return
        try:
            yield self._at_least(nbytes)[:nbytes].view(dtype).view(rows, columns)
        finally:
            self._lock.release()

    def _at_least(self, nbytes: int) -> torch.Tensor:
        memory = self._memory
        if memory is None or memory.nbytes < nbytes:
            self._memory = None  # first: both at once would be more than the bound
            # A tensor made in inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                memory = torch.empty(nbytes, dtype=torch.uint8)
            self._memory = memory
        return memory


class Blocks:
    """Into how many rows at a time a product may be split without another rounding.

    In which order a library adds up a matrix product may depend on its shape. So for every shape the products
    by blocks and as a whole are compared once, with numbers that show any other order, and only a shape
    for which they are equal bit for bit is split.

    Args:
        block_bytes: How much of a product is made at a time.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes
        self._rows: dict[tuple[int, int, int, int, torch.dtype], int] = {}

    def rows_for(self, rows: int, rank: int, columns: int, dtype: torch.dtype) -> int:
        """Return how many rows are made at a time; all of them when a split would change a number."""
        # With more threads the library shares the work out in another way.
        shape = (torch.get_num_threads(), rows, rank, columns, dtype)
        found = self._rows.get(shape)
        if found is None:
            found = self._rows[shape] = self._tried(rows, rank, columns, dtype)
        return found

    def fitting(self, rows: int, columns: int, dtype: torch.dtype) -> int:
        """Return how many rows are as large as a block, whatever that does to a product."""
        fitting = self.block_bytes // (columns * dtype.itemsize) // _ROWS_STEP * _ROWS_STEP
        return fitting if 0 < fitting < rows else rows

    def _tried(self, rows: int, rank: int, columns: int, dtype: torch.dtype) -> int:
        fitting = self.fitting(rows, columns, dtype)
        if fitting == rows:
            return rows
        generator = torch.Generator().manual_seed(rows * columns)
        up = torch.randn(rows, rank, generator=generator).to(dtype)
        down = torch.randn(rank, columns, generator=generator).to(dtype)
        whole = torch.mm(up, down)
        equal = (
            torch.equal(torch.mm(up[first : first + fitting], down), whole[first : first + fitting])
            for first in range(0, rows, fitting)
        )
        return fitting if all(equal) else rows


BLOCKS = Blocks()


def add_exact(
    weight: torch.Tensor,
    term: Term,
    workspace: Workspace,
    function: Callable[[torch.Tensor], torch.Tensor] | None = None,
    blocks: Blocks = BLOCKS,
) -> None:
    """Add a term to a weight in place, with ComfyUI's roundings.

    Args:
        weight: Of any shape and element type.
        term: One that fits it.
        workspace: Where the product is made.
        function: Applied to all that is added, as ComfyUI does; None: nothing is done to it.
        blocks: How many rows are made at a time.
    """
    up, down, scale = term
    rows, columns = up.shape[0], down.shape[1]
    if function is not None or not (weight.is_contiguous() or weight.shape == (rows, columns)):
        with workspace.lend(rows, columns, up.dtype) as product:
            torch.mm(up, down, out=product)
            product.mul_(scale)
            added = product.view(weight.shape).type(weight.dtype)
            weight += added if function is None else function(added)
        return
    matrix, step = weight.view(rows, columns), rows
    if up.is_contiguous() and down.is_contiguous():  # as those that the blocks are tried with
        step = blocks.rows_for(rows, up.shape[1], columns, up.dtype)
    with workspace.lend(step, columns, up.dtype) as memory:
        for first in range(0, rows, step):
            part = up[first : first + step]
            product = memory[: part.shape[0]]
            torch.mm(part, down, out=product)
            product.mul_(scale)
            matrix[first : first + step] += product.type(weight.dtype)


def can_add_fast(weight: torch.Tensor, term: Term) -> bool:
    """Is this a weight, and a term, for `add_fast`? Single precision, and rows that can be told apart."""
    return weight.dtype == term.up.dtype == torch.float32 and (
        weight.is_contiguous() or weight.shape == (term.up.shape[0], term.down.shape[1])
    )


def add_fast(weight: torch.Tensor, term: Term) -> None:
    """Add a term to a weight of single precision in place, in one pass."""
    up, down, scale = term
    weight.view(up.shape[0], down.shape[1]).addmm_(up, down, alpha=scale)

"""What to do when memory runs out: smaller batches, then tiles, then an error that says so.

Every step down is told to the person at the screen. Knows nothing of models: the caller's function
does the work for a part of the batch, whole or in tiles of a given size.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from ..errors import OutOfMemoryError
from .engine import RunControl

T = TypeVar("T")

TILE_SIDES_PX = (512, 256, 128)  # tried in this order
_TEXTS = (
    "out of memory",  # CUDA, ROCm, XPU, MPS
    "can't allocate memory",  # CPU
    "not enough memory",  # CPU on Windows
    "_alloc_failed",  # cuBLAS, cuDNN
    "invalid buffer size",  # MPS: one buffer larger than the device allows
)


class Step(NamedTuple):
    """One way to do the work: so many items of the batch at a time, whole or in tiles."""

    items: int
    tile_px: int | None = None  # side of a tile in pixels; None: whole


@dataclass(frozen=True, slots=True)
class Job:
    """Work on a batch that may need more memory than there is.

    Attributes:
        what: The work, as the beginning of a sentence: "Decoding 2 latents to 512 x 512 pixels".
        device: torch's name of the device.
        steps: The ways to do it, the one that needs the most memory first; at least one.
        control: Whom to tell about a step down.
    """

    what: str
    device: str
    steps: tuple[Step, ...]
    control: RunControl


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device has no room."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(known in text for known in _TEXTS)


def attempt(run: Callable[[], T]) -> T | None:
    """Return what `run` gives, or None when memory ran out.

    When it returns, the error is gone, and with it the frames that held on to tensors.
    """
    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def free_cached_memory(device: str) -> None:
    """Give memory that nothing uses any more from torch's and libc's caches back to the device."""
    gc.collect()
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
    elif kind == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


def plan_steps(batch: int, side_px: int, smallest_tile_px: int = 1) -> tuple[Step, ...]:
    """Return the ways to work on a batch: whole, halves, …, one by one, then in smaller and smaller tiles.

    Args:
        batch: Items to begin with, at least 1.
        side_px: The longer side of the picture, in pixels; only smaller tiles are of use.
        smallest_tile_px: Tiles below this side are of no use, in pixels.
    """
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    tiles = [side for side in TILE_SIDES_PX if smallest_tile_px <= side < side_px]
    return (*(Step(size) for size in sizes), *(Step(1, tile) for tile in tiles))


def run_in_steps(
    batch: torch.Tensor, job: Job, run: Callable[[torch.Tensor, Step, int], torch.Tensor]
) -> torch.Tensor:
    """Work on a batch in the first way that fits into memory.

    Args:
        batch: [B, …], B at least 1.
        job: What the work is, and the ways to do it.
        run: Called with the next items [n, …], the way to do them, and how many items are done;
            returns [n, …] on the CPU. Called again with the next way when memory ran out.

    Returns:
        [B, …] on the CPU, with the memory layout of what `run` returned.

    Raises:
        OutOfMemoryError: Even the last way needs more memory than there is.
    """
    parts: list[torch.Tensor] = []
    done, level = 0, 0
    while done < batch.shape[0]:
        job.control.check()
        step, items = job.steps[level], batch[done : done + job.steps[level].items]
        part = attempt(partial(run, items, step, done))
        if part is not None:
            parts.append(part)
            done += items.shape[0]
            continue
        free_cached_memory(job.device)
        level += 1
        if level == len(job.steps):
            raise out_of_memory(job.what, job.device)
        job.control.note(_describe_step_down(job, job.steps[level]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def out_of_memory(what: str, device: str) -> OutOfMemoryError:
    """Return the error for work that does not fit into a device's memory."""
    return OutOfMemoryError(
        f"{what} needs more memory than '{device}' has left.",
        "Use smaller pictures or fewer at a time, or free memory on the device: close other programs "
        "that use it, or release models that are not needed.",
    )


def _describe_step_down(job: Job, step: Step) -> str:
    way = f"in batches of {step.items}" if step.items > 1 else "one by one"
    if step.tile_px is not None:
        way = f"in tiles of {step.tile_px} pixels, so the result differs a little"
    return f"{job.what} did not fit into the memory of '{job.device}'; it goes on {way}."

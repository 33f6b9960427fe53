"""A loaded module's way from its device to RAM and back: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..oom import attempt, free_cached_memory, out_of_memory

Copy = Callable[[torch.Tensor], torch.Tensor]


def move_module(module: Any, what: str, device: str) -> None:
    """Move all weights of a module to a device.

    Args:
        module: Where its weights are does not matter.
        what: What goes on, as the beginning of a sentence: "Waking a model".
        device: torch's name of the target.

    Raises:
        OutOfMemoryError: The target has no room. The module is where it was.
    """
    before = str(next(iter(module.parameters())).device)
    if not replace_weights(module, lambda weight: weight.to(device)):
        free_cached_memory(device)
        raise out_of_memory(what, device)
    free_cached_memory(before)


def replace_weights(module: Any, copy: Copy) -> bool:
    """Put a copy in the place of every weight; False, and no weight changed, when memory runs out.

    All copies are made before the first takes its place, so nothing is ever half here, half there.
    """
    weights = [*module.parameters(), *module.buffers()]
    copies = attempt(lambda: [copy(weight.data) for weight in weights])
    if copies is None:
        return False
    for weight, new in zip(weights, copies, strict=True):
        weight.data = new
    return True

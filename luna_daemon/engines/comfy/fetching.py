"""Weights of a model by name, for saving it and for nodes that look into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import torch

from ...errors import NotFoundError


def fetch(patcher: Any, names: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """Return weights, on the CPU, with the patcher's patches in them.

    Raises:
        NotFoundError: The model has no weight of one of the names.
    """
    comfy.model_management.load_models_gpu([patcher], force_patch_weights=True)
    held = patcher.model.state_dict()
    missing = [name for name in names if name not in held]
    if missing:
        raise NotFoundError(f"The model has no weight '{missing[0][:200]}'.")
    return tuple(patcher.patched_weight(name, held[name]).detach().cpu() for name in names)

"""One patch set at a time is in a model's weights; it stays there until another one is needed.

Calls with the same recipe find its patches applied: ComfyUI compares a patcher's `patches_uuid`, which is
made of the recipe's digest here.
"""

from __future__ import annotations

import uuid
from typing import Any

import comfy.hooks
import comfy.model_management

from .loading import ComfyModel
from .patches import Patches

PLAIN = ""  # the digest of no recipe
_NAMESPACE = uuid.UUID("3f5a3a3c-63f5-4f0e-9a0f-6b0b8b0f6f5e")


def patcher_of(model: ComfyModel, digest: str) -> Any | None:
    """Return the patcher for a recipe when it needs not be made: the plain one, or the applied one."""
    if digest == PLAIN:
        return model.base
    return model.applied[1] if model.applied[0] == digest else None


def make_patcher(model: ComfyModel, digest: str, stages: dict[str, Patches]) -> Any:
    """Return a patcher of the model with a recipe's patches."""
    patcher = model.base.clone()
    patcher.patches = stages.get("patches", {})
    patcher.patches_uuid = uuid.uuid5(_NAMESPACE, digest)
    if stages.get("hooks"):
        hook, group = comfy.hooks.WeightHook(), comfy.hooks.HookGroup()
        group.add(hook)
        patcher.hook_patches[hook.hook_ref] = stages["hooks"]
        patcher.forced_hooks = group
    return patcher


def return_to_plain(model: ComfyModel) -> None:
    """Take the patches out of a model's weights."""
    comfy.model_management.load_models_gpu([model.base])
    model.applied, model.borrowed = (PLAIN, model.base), frozenset()

"""Takes the LoRAs of a run off a model."""

from __future__ import annotations

import uuid
from typing import Any

import comfy.model_management

from .transient import base_of


def reset(model: Any, *, now: bool) -> tuple[Any, str]:
    """Return the model without LoRAs, and what was done in a sentence.

    Args:
        model: A MODEL.
        now: Put weights in memory back at once, if a LoRA is in them.
    """
    base = base_of(model)
    if base is not None:
        what = f"Took the LoRAs of this run off {len(model.patches)} weights."
    elif model.patches:
        what = f"Took all patches off {len(model.patches)} weights; they were not this pack's."
        base = _without_patches(model)
    else:
        what, base = "There were no LoRAs on this model.", model
    if now and _restore(base):
        what += " The weights in memory are those of the base model again."
    return base, what


def _without_patches(model: Any) -> Any:
    root = model
    while root.patches and root.parent is not None:
        root = root.parent
    clone = model.clone()
    clone.patches = {}
    # By this name ComfyUI knows weights that are in place.
    clone.patches_uuid = uuid.uuid4() if root.patches else root.patches_uuid
    return clone


def _restore(base: Any) -> bool:
    """Take patches out of the weights in memory; False when there are none in them."""
    loaded = getattr(base.model, "current_weight_patches_uuid", None)
    if loaded is None or loaded == base.patches_uuid:
        return False
    # Unloading costs nothing that the next patches would not cost, too: ComfyUI unloads before it patches.
    unload = getattr(comfy.model_management, "unload_model_and_clones", None)
    if unload is not None:
        unload(base, unload_additional_models=False)
    else:  # releases before it
        comfy.model_management.load_models_gpu([base])
    return True

"""ComfyUI's ModelPatcher for models whose weights may lie in a mapped file.

It differs from ComfyUI's in one point: nothing is written into a weight in place. ComfyUI's patches
replace weights, but its hooks write into them; here a weight is made private before a hook does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import comfy.model_patcher
import comfy.utils

from ...lora_adapters import WORKSPACE


class _Kept(NamedTuple):
    """What ComfyUI's patcher keeps of a weight that it replaces."""

    weight: Any
    inplace_update: bool


class HostPatcher(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher that replaces weights and never changes them."""

    def load(self, *args: Any, **options: Any) -> None:
        """Bring the model to its device with its patches in the weights."""
        try:
            super().load(*args, **options)
        finally:
            WORKSPACE.free()

    def patch_hook_weight_to_device(self, *args: Any, **options: Any) -> None:
        """Apply a hook's patches to one weight, which is made private first."""
        key = options["key"] if "key" in options else args[2]
        self._make_private(key)
        super().patch_hook_weight_to_device(*args, **options)

    def _make_private(self, key: str) -> None:
        if key in self.backup or key in self.hook_backup:
            return  # what is in the model now is no longer the file's
        weight, _, _ = comfy.model_patcher.get_key_weight(self.model, key)
        self.backup[key] = _Kept(weight, inplace_update=False)
        comfy.utils.set_attr_param(self.model, key, weight.clone())


def pristine_weight(patcher: Any, key: str) -> Any:
    """Return a weight of a model as its file has it, whatever is applied at the moment.

    Raises:
        AttributeError: The model has no such weight.
    """
    if key in patcher.backup:
        return patcher.backup[key].weight
    if key in patcher.hook_backup:
        return patcher.hook_backup[key][0]
    return comfy.model_patcher.get_key_weight(patcher.model, key)[0]

"""ComfyUI's ModelPatcher for models whose weights may lie in a mapped file.

It differs from ComfyUI's in four points. Nothing is written into a weight in place: ComfyUI's patches
replace weights, but its hooks write into them; here a weight is made private before a hook does. A weight
on the CPU that only gets LoRAs is made in one pass, where ComfyUI takes a pass for each step. Fast LoRAs of
CLIP's blocks stay beside the weight. And where a loaded model on the CPU gets other patches of weights, only these
are exchanged: ComfyUI unloads and loads all of its layers, which costs more than a LoRA for some of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP

from ...gguf_models.patching import KeepsQuantised, Kept
from ...gguf_models.weight import in_values
from ...lora_adapters import WORKSPACE, merged_at_once
from .side_paths import side_paths_of


class HostPatcher(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher that replaces weights and never changes them."""

    def load(self, *args: Any, **options: Any) -> None:
        """Bring the model to its device with its patches in the weights."""
        try:
            super().load(*args, **options)
        finally:
            WORKSPACE.free()

    def partially_load(
        self, device_to: Any, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> Any:
        """Bring the model to its device with its patches in the weights; exchange no more than has to be."""
        if force_patch_weights or not self._needs_other_patches_only(device_to):
            return super().partially_load(device_to, extra_memory, force_patch_weights)
        with ExitStack() as failed:
            failed.callback(self.detach)
            self._exchange_patches(device_to)
            failed.pop_all()
        return 0

    def _needs_other_patches_only(self, device: Any) -> bool:
        """Is the model loaded as a whole, and nothing about it to change but patches of weights?"""
        model = self.model
        return (
            _computes_in_fp32(device)
            and model.device == torch.device(device)
            and model.model_loaded_weight_memory > 0
            and not model.model_lowvram
            and model.current_weight_patches_uuid not in (None, self.patches_uuid)
            and not self._has_more_than_patches()
        )

    def _has_more_than_patches(self) -> bool:
        return any(
            (
                self.weight_inplace_update,
                self.hook_backup,
                self.current_hooks,
                self.forced_hooks,
                not self._has_its_objects(),
                self.weight_wrapper_patches,
                self.injections,
                self.get_all_callbacks(CallbacksMP.ON_LOAD),
            )
        )

    def _has_its_objects(self) -> bool:
        """Are all objects of the model that this patcher replaces, and no others, replaced by its own?"""
        wanted = self.object_patches
        return self.object_patches_backup.keys() == wanted.keys() and all(
            comfy.utils.get_attr(self.model, name) is made for name, made in wanted.items()
        )

    def _exchange_patches(self, device: Any) -> None:
        self.model.current_weight_patches_uuid = None
        for key, kept in self.backup.items():
            comfy.utils.set_attr_param(self.model, key, kept.weight)
        self.backup.clear()
        side_paths_of(self.model).clear()
        for key in self.patches:
            # ComfyUI patches the layers that it loads, and marks them.
            layer = self.model.get_submodule(key.rpartition(".")[0])
            if getattr(layer, "comfy_patched_weights", False):
                self.patch_weight_to_device(key, device_to=device)
        WORKSPACE.free()
        self.model.current_weight_patches_uuid = self.patches_uuid

    def patch_weight_to_device(
        self, key: str, device_to: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Replace a weight by one with its patches, or put fast ones beside it."""
        plain_call = not args and not options and not self.weight_inplace_update
        if plain_call and key in self.patches and _computes_in_fp32(device_to):
            weight, set_weight, convert = comfy.model_patcher.get_key_weight(self.model, key)
            if set_weight is None and convert is None:
                if key not in self.backup and side_paths_of(self.model).add(
                    self.model, key, self.patches[key]
                ):
                    return None
                changed = merged_at_once(weight, self.patches[key])
                if changed is not None:
                    self._keep(key, weight)
                    comfy.utils.set_attr_param(self.model, key, changed)
                    return None
        return super().patch_weight_to_device(key, device_to, *args, **options)

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """Take the patches out of the weights, and those beside them away."""
        super().unpatch_model(device_to, unpatch_weights)
        if unpatch_weights:
            side_paths_of(self.model).clear()

    def patched_weight(self, key: str, held: torch.Tensor) -> torch.Tensor:
        """Return a weight with its patches, also if they are beside it; `held` is the model's."""
        if key not in side_paths_of(self.model):
            values: torch.Tensor = in_values(held)
            return values
        merged = merged_at_once(held, self.patches[key])
        assert merged is not None, "what can be beside a weight can be in it"
        return merged

    def patch_hook_weight_to_device(self, *args: Any, **options: Any) -> None:
        """Apply a hook's patches to one weight, which is made private first."""
        key = options["key"] if "key" in options else args[2]
        self._make_private(key)
        super().patch_hook_weight_to_device(*args, **options)

    def _make_private(self, key: str) -> None:
        if key in self.backup or key in self.hook_backup:
            return  # what is in the model now is no longer the file's
        weight, _, _ = comfy.model_patcher.get_key_weight(self.model, key)
        self._keep(key, weight)
        comfy.utils.set_attr_param(self.model, key, weight.clone())

    def _keep(self, key: str, weight: Any) -> None:
        if key not in self.backup:
            self.backup[key] = Kept(weight, inplace_update=False)


class GgufHostPatcher(KeepsQuantised, HostPatcher):
    """A HostPatcher for a model with weights of GGUF files."""


def _computes_in_fp32(device: Any) -> bool:
    """Are patches for this device made on the CPU, in single precision?"""
    return (
        device is not None
        and torch.device(device).type == "cpu"
        and comfy.model_management.lora_compute_dtype(device) == torch.float32
    )


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

"""A model patcher that leaves weights of GGUF files as they are, and puts LoRAs into their values.

ComfyUI's patcher replaces a weight by a plain tensor with its patches, or lets the layer add them in the
type that it computes in where the weight does not fit on the device. Here both are the same: a weight with
patches is the same bytes and a step that is done to the values, with the arithmetic of ComfyUI's first way.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.float
import comfy.hooks
import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from .weight import GgufWeight, in_values

_BYTES_OF_A_VALUE = 8  # while it is made: in float32, and what it is put together from
_LayersPatch = comfy.model_patcher.LowVramPatch
_string_to_seed = getattr(comfy.utils, "string_to_seed", None) or comfy.model_patcher.string_to_seed


class Kept(NamedTuple):
    """What ComfyUI's patcher keeps of a weight that it replaces."""

    weight: Any
    inplace_update: bool


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """A step: what patches of ComfyUI make of a weight's values.

    Attributes:
        key: The weight's name.
        patches: As they stand in a patcher.
        computes_in: The element type of the arithmetic; None: what ComfyUI takes for LoRAs on the device.
        originals: The weight as it was before all patches, for those that are differences to it.
    """

    key: str
    patches: tuple[Any, ...]
    computes_in: torch.dtype | None = None
    originals: Mapping[str, Any] | None = None

    def __call__(self, weight: Tensor) -> Tensor:
        """Return values with the patches, in the weight's element type."""
        dtype = self.computes_in or _lora_dtype(weight.device)
        options = {} if self.originals is None else {"original_weights": self.originals}
        copy = weight.to(dtype, copy=True)
        changed = comfy.lora.calculate_weight(list(self.patches), copy, self.key, **options)
        return comfy.float.stochastic_rounding(
            changed, weight.dtype, seed=_string_to_seed(self.key)
        )


class KeepsQuantised(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher for models with weights of GGUF files. Signatures are open: they differ between releases."""

    # -- patches ----------------------------------------------------------------------------------

    def load(self, *args: Any, **options: Any) -> None:
        """Bring the model to its device, as much of it as fits, all of it with its patches."""
        super().load(*args, **{**options, "force_patch_weights": True})

    def partially_unload(self, *args: Any, **options: Any) -> Any:
        """Move some of the model's weights away; they keep their patches."""
        function = super().partially_unload
        if "force_patch_weights" in inspect.signature(function).parameters:
            return function(*args, **{**options, "force_patch_weights": True})
        freed = function(*args, **options)
        self._patch_what_layers_would()
        return freed

    def _patch_what_layers_would(self) -> None:
        """Patch weights that were moved away; before ComfyUI 0.3.71 it leaves that to their layers."""
        for name, module in self.model.named_modules():
            for part in ("weight", "bias"):
                functions = vars(module).get(f"{part}_function") or []
                others = [one for one in functions if not isinstance(one, _LayersPatch)]
                if len(others) < len(functions):
                    setattr(module, f"{part}_function", others)
                    self.patch_weight_to_device(f"{name}.{part}")

    def patch_weight_to_device(
        self, key: str, device_to: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Let a weight of a GGUF file have its patches; others ComfyUI replaces."""
        return_it = bool(options.get("return_weight"))
        kept = self.backup.get(key)
        if kept is not None:  # it has its patches, also if it is away from the device
            if return_it:
                return in_values(comfy.utils.get_attr(self.model, key))
            comfy.utils.set_attr_param(self.model, key, kept.weight)
        weight = comfy.utils.get_attr(self.model, key)
        if not isinstance(weight, GgufWeight):
            return super().patch_weight_to_device(key, device_to, *args, **options)
        if key not in self.patches:
            return weight
        patched = self._patched(key, weight, device_to)
        if return_it:
            return in_values(patched)
        self.backup[key] = Kept(weight, inplace_update=False)
        comfy.utils.set_attr_param(self.model, key, patched)
        return None

    def _patched(self, key: str, weight: GgufWeight, device: Any) -> Tensor:
        step = Patches(key, tuple(self.patches[key]))
        shape_with = getattr(comfy.lora, "calculate_shape", None)  # since ComfyUI 0.12
        if shape_with is None or shape_with(self.patches[key], weight, key) == weight.shape:
            return weight.changed(steps=(step,))
        # A LoRA that makes the weight larger: there is no such weight in the file.
        return step(weight.changed(device=device).values())

    # -- hooks ------------------------------------------------------------------------------------

    def patch_hook_weight_to_device(
        self, hooks: Any, combined_patches: Any, key: str, *args: Any, **options: Any
    ) -> None:
        """Let a weight of a GGUF file have the patches of hooks, behind its own."""
        weight = comfy.utils.get_attr(self.model, key)
        if not isinstance(weight, GgufWeight):
            super().patch_hook_weight_to_device(hooks, combined_patches, key, *args, **options)
            return
        if key not in combined_patches:
            return
        originals = options["original_weights"] if "original_weights" in options else args[0]
        step = Patches(key, tuple(combined_patches[key]), torch.float32, {key: originals.pop(key)})
        before = self.hook_backup.setdefault(key, (weight, weight.device))[0]
        hooked = before.changed(steps=(*before.steps, step))
        comfy.utils.set_attr_param(self.model, key, hooked)
        if self.hook_mode == comfy.hooks.EnumHookMode.MaxSpeed:
            self.cached_hook_patches.setdefault(hooks, {})[key] = (hooked, weight.device)

    def patch_cached_hook_weights(
        self, cached_weights: Any, key: str, *args: Any, **options: Any
    ) -> None:
        """Let a weight have the patches of hooks once more."""
        cached, device = cached_weights[key]
        if not isinstance(cached, GgufWeight):
            super().patch_cached_hook_weights(cached_weights, key, *args, **options)
            return
        weight = comfy.utils.get_attr(self.model, key)
        self.hook_backup.setdefault(key, (weight, weight.device))
        comfy.utils.set_attr_param(self.model, key, cached.changed(device=device))

    def unpatch_hooks(self, whitelist_keys_set: set[str] | None = None) -> None:
        """Take the patches of hooks away, of all weights or of some."""
        for key, (weight, device) in list(self.hook_backup.items()):
            is_wanted = not whitelist_keys_set or key in whitelist_keys_set
            if is_wanted and isinstance(weight, GgufWeight):
                comfy.utils.set_attr_param(self.model, key, weight.changed(device=device))
                del self.hook_backup[key]
        super().unpatch_hooks(whitelist_keys_set)

    def pin_weight_to_device(self, key: str) -> None:
        """Pin a weight that waits in RAM for the device; the bytes of a mapped file stay where they are."""
        if not isinstance(comfy.utils.get_attr(self.model, key), GgufWeight):
            super().pin_weight_to_device(key)

    # -- memory and files -------------------------------------------------------------------------

    def model_size(self) -> int:
        """Return the bytes of all weights as they are in memory; before ComfyUI 0.8 it counts values."""
        if self.size <= 0:
            self.size: int = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        return self.size

    def memory_required(self, input_shape: Sequence[int]) -> Any:
        """Return the bytes that a run takes beside the weights: the values of one of them, too."""
        values = (
            weight.numel() * (weight.element_size() + _BYTES_OF_A_VALUE)
            for weight in self.model.parameters()
            if isinstance(weight, GgufWeight)
        )
        return super().memory_required(input_shape) + max(values, default=0)

    def model_state_dict_for_saving(
        self, model: torch.nn.Module | None = None, prefix: str = ""
    ) -> dict[str, Tensor]:
        """Return the values of all weights, with their patches: ComfyUI has no format for the bytes."""
        return values_of((self.model if model is None else model).state_dict())


def values_of(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of all weights in a state dict."""
    return {name: in_values(tensor) for name, tensor in state_dict.items()}


def _lora_dtype(device: torch.device) -> torch.dtype:
    choose = getattr(comfy.model_management, "lora_compute_dtype", None)  # since ComfyUI 0.4
    dtype: torch.dtype = torch.float32 if choose is None else choose(device)
    return dtype

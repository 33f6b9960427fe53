"""Refuses code of other packs that a model would run with here, and that the daemon does not have.

It stands in place of ComfyUI's or torch's own, in a model's patcher, or around everything that torch does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import comfy
import torch
from comfy.model_patcher import ModelPatcher
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from .class_patches import ClassPatches
from .errors import EditNotSharedError

# Also where attention is chosen: packs replace it for all models at once.
_ALSO = ("comfy.ldm.modules.attention", "comfy.ops")
# Tokenizers run in this process, with whatever they call.
_OF_TOKENIZERS = frozenset(
    [
        "bundled_embed",
        "escape_important",
        "expand_directory_list",
        "load_embed",
        "parse_parentheses",
        "safe_load_embed_zip",
        "token_weights",
        "unescape_important",
    ]
)
CLASS_PATCHES = ClassPatches(comfy, _ALSO, {"comfy.sd1_clip": _OF_TOKENIZERS})
# What ComfyUI computes patched weights with, beside the code of the kinds of LoRAs.
_PATCHING = {"comfy.lora": ("calculate_shape", "calculate_weight", "pad_tensor_to_shape")}
_PATCHING_METHODS = ("calculate_weight", "patch_hook_weight_to_device", "patch_weight_to_device")


def refuse_replaced(title: str, replaced: str) -> None:
    """Refuse code in place of the usual one, named here; "" when there is none."""
    if replaced:
        raise EditNotSharedError(
            f"Another pack has replaced '{replaced}' in this process; the daemon, which runs {title}, "
            "has the usual one."
        )


def refuse_code_of(title: str, modules: Iterable[torch.nn.Module]) -> None:
    """Refuse code in place of what modules of these classes run."""
    replaced = CLASS_PATCHES.find({type(m) for m in modules}) or CLASS_PATCHES.replaced_in_torch()
    refuse_replaced(title, replaced)


def refuse_code_around(title: str) -> None:
    """Refuse what a node does to all modules, or all functions of torch."""
    modes = [*_get_current_function_mode_stack(), *_get_current_dispatch_mode_stack()]
    names = [type(mode).__name__ for mode in modes if not isinstance(mode, DeviceContext)]
    if names or torch.nn.modules.module._has_any_global_hook():
        raise EditNotSharedError(
            f"A node puts its own code ({', '.join(names) or 'global hooks'}) around all that torch "
            f"computes in this process; the daemon, which runs {title}, does not have it."
        )


def refuse_code_in(patcher: ModelPatcher, title: str, plain_casting: tuple[Any, Any]) -> None:
    """Refuse what a node put into a model's patcher and what works on real layers only."""
    wrappers = getattr(patcher, "weight_wrapper_patches", None)
    if wrappers:
        raise EditNotSharedError(
            f"A node wrapped the weight '{next(iter(wrappers))}' of {title} in a function."
        )
    if patcher.injections:
        raise EditNotSharedError(
            f"A node put code into {title} ('{next(iter(patcher.injections))}', such as a "
            "bypass LoRA), which only works where the weights are."
        )
    if casting(patcher) != plain_casting:
        raise EditNotSharedError(f"A node changed the type that {title} computes in.")


def refuse_patching(title: str, *tables: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Refuse code in place of what puts these patches on weights."""
    patches = [patch for table in tables for each in table.values() for patch in each]
    if patches:
        refuse_replaced(
            title,
            CLASS_PATCHES.replaced_function(_PATCHING)
            or CLASS_PATCHES.replaced(ModelPatcher, _PATCHING_METHODS)
            or CLASS_PATCHES.find({type(patch[1]) for patch in patches}),
        )


def casting(patcher: ModelPatcher) -> tuple[Any, Any]:
    """How a patcher has weights converted when they are used."""
    dtype = patcher.object_patches.get("manual_cast_dtype")
    return dtype, getattr(patcher, "force_cast_weights", False)

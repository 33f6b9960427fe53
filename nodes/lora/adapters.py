"""LoRAs of a model that ComfyUI patches in this process: the same weights, made with less memory traffic.

For whoever puts LoRAs on a clone:

    patcher.add_patches(adapters_for(loaded, fast=False), strength)
    free_after_loading(patcher)

where `loaded` is what comfy.lora.load_lora gave. ComfyUI does the rest as always: it patches when the clone
is loaded, and a clone with other strengths starts from the same plain weights. The adapters can be put on
a text encoder that the daemon holds, too; there `fast` becomes a part of the patch set.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from comfy.patcher_extension import CallbacksMP
from comfy.weight_adapter.lora import LoRAAdapter

from ...luna_daemon.lora_adapters import WORKSPACE, ExactLora, FastLora

K = TypeVar("K", bound=Hashable)
_CALLBACK = "luna_loras"


def adapters_for(patches: Mapping[K, Any], *, fast: bool = False) -> dict[K, Any]:
    """Return patches in which plain LoRAs have arithmetic of our own; all others are as they were.

    Args:
        patches: Weight's name, or (name, offset, …), → patch, as comfy.lora.load_lora returns them.
        fast: Round less often than ComfyUI does; off, the weights are ComfyUI's bit for bit.
    """
    kind = FastLora if fast else ExactLora
    return {
        key: kind(patch.loaded_keys, patch.weights) if type(patch) in _LORAS else patch
        for key, patch in patches.items()
    }


def free_after_loading(patcher: Any) -> None:
    """Let a patcher free the memory for intermediate results when its patches are in the weights."""
    if not patcher.get_callbacks(CallbacksMP.ON_LOAD, _CALLBACK):
        patcher.add_callback_with_key(CallbacksMP.ON_LOAD, _CALLBACK, _free)


def _free(*_: Any) -> None:
    WORKSPACE.free()


_LORAS = (LoRAAdapter, ExactLora, FastLora)

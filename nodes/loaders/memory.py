"""Models out of the device's memory and back, by ComfyUI's own bookkeeping.

Nothing is copied on the side: ComfyUI's patcher takes its patches out of the weights, moves them to where it
keeps them while they are not used, and puts the same patches on again when the model is loaded.
"""

from __future__ import annotations

import weakref
from typing import Any

import comfy.model_management
import comfy.patcher_extension

from .parked_models import name_of

_EVERYTHING = 1e32  # bytes; more than any device has
_MB = 1e6
_WRAPPER = "luna_second_model"


def unload(patcher: Any) -> int:
    """Take a model off its device, with all its clones; return how many bytes were freed there."""
    management = comfy.model_management
    loaded = [entry for entry in management.current_loaded_models if _is_clone(patcher, entry)]
    if not loaded:
        return 0
    freed = sum(entry.model_loaded_memory() for entry in loaded)
    others = [entry for entry in management.current_loaded_models if entry not in loaded]
    for device in {entry.device for entry in loaded}:
        management.free_memory(_EVERYTHING, device, others)
    return int(freed)


def restore(patcher: Any) -> str:
    """Bring a model to its device with its patches; return a sentence that says so."""
    comfy.model_management.load_models_gpu([patcher])
    there, whole = (size / _MB for size in (patcher.loaded_size(), patcher.model_size()))
    some = "" if there >= whole else ", as much as there is room for"
    patches = f", with {len(patcher.patches)} patched weights" if patcher.patches else ""
    return f"'{name_of(patcher)}' is on {patcher.load_device}: {there:.0f} of {whole:.0f} MB{some}{patches}."


def make_way(second: Any, first: Any) -> None:
    """Let `first` be off the device before `second` is sampled with, every time.

    What is held of `first` is a weak reference: the workflow's end is its end.
    """
    model = weakref.ref(first.model)

    def unload_first(executor: Any, *args: Any, **options: Any) -> Any:
        gone = model()
        for entry in list(comfy.model_management.current_loaded_models):
            if gone is not None and entry.model is not None and entry.model.model is gone:
                unload(entry.model)
        return executor(*args, **options)

    second.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, _WRAPPER, unload_first
    )


def _is_clone(patcher: Any, entry: Any) -> bool:
    return entry.model is not None and bool(patcher.is_clone(entry.model))

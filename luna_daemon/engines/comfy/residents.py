"""The models of this process belong to the daemon: ComfyUI's own memory care leaves them alone.

Before ComfyUI loads a model to a device it drops others from there, as it sees fit. Here the daemon has
decided before, by its budgets and leases, what is in memory; what it wants to go it unloads itself.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management as management

from ..oom import free_cached_memory


class Residents:
    """The models that stay on the device until they are released."""

    def __init__(self) -> None:
        self._patchers: list[Any] = []
        self._stock = management.free_memory
        management.free_memory = self._free_memory

    def close(self) -> None:
        """Give ComfyUI its own memory care back."""
        management.free_memory = self._stock

    def keep(self, patcher: Any) -> None:
        """Exempt a model."""
        self._patchers.append(patcher)

    def release(self, patcher: Any, device: str) -> None:
        """Forget a model, so that its memory is free once nobody holds it."""
        self._patchers = [kept for kept in self._patchers if kept is not patcher]
        for loaded in _loaded_of(patcher):
            if loaded.model_finalizer is not None:
                loaded.model_finalizer.detach()
            _forget(loaded)
        free_cached_memory(device)

    def put_to_sleep(self, patcher: Any, device: str) -> None:
        """Move a model's own weights, without patches, to where ComfyUI keeps what is not in use."""
        for loaded in _loaded_of(patcher):
            loaded.model_unload()
            _forget(loaded)
        free_cached_memory(device)

    def wake(self, patcher: Any) -> None:
        """Bring a model to its device."""
        management.load_models_gpu([patcher])

    def _free_memory(
        self,
        memory_required: float,
        device: Any,
        keep_loaded: Any = (),
        *args: Any,
        **options: Any,
    ) -> Any:
        ours = [loaded for loaded in management.current_loaded_models if self._is_kept(loaded)]
        return self._stock(memory_required, device, [*keep_loaded, *ours], *args, **options)

    def _is_kept(self, loaded: Any) -> bool:
        model = loaded.model
        return model is not None and any(kept.is_clone(model) for kept in self._patchers)


def _loaded_of(patcher: Any) -> list[Any]:
    """Return ComfyUI's entries for a model, with whatever patches."""
    return [
        loaded
        for loaded in management.current_loaded_models
        if loaded.model is not None and patcher.is_clone(loaded.model)
    ]


def _forget(loaded: Any) -> None:
    # Not remove(): it compares, and others may have lost their model.
    management.current_loaded_models[:] = [
        other for other in management.current_loaded_models if other is not loaded
    ]

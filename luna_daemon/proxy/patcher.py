"""The model patcher of a skeleton: ComfyUI's bookkeeping, and not one weight.

ComfyUI's own loading would fill a model on `meta` with zeros, without an error. So everything that loads,
unloads or patches weights only notes, at the skeleton, whose weights would now be in the model.
"""

from __future__ import annotations

from typing import Any, NoReturn

import comfy.model_patcher
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP

from ...utils.log import get_logger, log_once
from .errors import CannotPickleError, EditNotSharedError
from .saving import fetch_state_dict
from .skeleton import Skeleton, skeleton_of
from .stubs import copied_module

log = get_logger("proxy")


class SkeletonPatcher(comfy.model_patcher.ModelPatcher):
    """Is a comfy.model_patcher.ModelPatcher. Signatures are open: they differ between releases."""

    @property
    def skeleton(self) -> Skeleton:
        """What the patchers of one model share."""
        return skeleton_of(self.model)

    def is_dynamic(self) -> bool:
        """ComfyUI's dynamic loading has nothing to load."""
        return False

    def loaded_size(self) -> int:
        """All of it: so nothing is moved out of this process's VRAM to make room for it."""
        return int(self.model_size())

    # -- what would move weights ------------------------------------------------------------------

    def load(self, device_to: torch.device | None = None, *_: Any, **__: Any) -> None:
        """Note that the weights with this patcher's patches would now be in the model."""
        self._note_loaded(device_to)
        for callback in self.get_all_callbacks(CallbacksMP.ON_LOAD):
            callback(self, device_to, 0, False, True)
        self.apply_hooks(self.forced_hooks, force_apply=True)

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        """As ComfyUI: take the last one's object patches off, put this one's on, load.

        Nothing is loaded, and no callback is called, when the very same weights are in the model.
        """
        last = self.skeleton.last
        is_in = last is not None and last.uuid == self.patches_uuid
        self.unpatch_model(unpatch_weights=False)
        self.patch_model(device_to, load_weights=not is_in)
        if is_in:
            self._note_loaded(device_to)
            self.apply_hooks(self.forced_hooks, force_apply=True)
        return 0

    def _note_loaded(self, device_to: torch.device | None) -> None:
        self.unpatch_hooks()
        self.model.device = device_to if device_to is not None else self.load_device
        self.skeleton.loaded(self)

    def patch_model(
        self, device_to: torch.device | None = None, *_: Any, load_weights: bool = True, **__: Any
    ) -> torch.nn.Module:
        """Put object patches on, which run in this process, and load."""
        for name, patch in self.object_patches.items():
            old = comfy.utils.set_attr(self.model, name, patch)
            self.object_patches_backup.setdefault(name, old)
        if load_weights:
            self.load(device_to)
        return self.model

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        """Take object patches off; with `unpatch_weights`, the model is as its file has it."""
        if unpatch_weights:
            self.unpatch_hooks()
            self.model.current_weight_patches_uuid = None
            self.skeleton.unloaded()
        for name, old in self.object_patches_backup.items():
            comfy.utils.set_attr(self.model, name, old)
        self.object_patches_backup.clear()

    def inject_model(self) -> None:
        """Injections work on real layers; a call refuses them, or loads the model here."""

    def eject_model(self) -> None:
        """Nothing was injected."""

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Nothing can be freed here."""
        return 0

    def pin_weight_to_device(self, key: str) -> None:
        """There is nothing to pin."""

    def unpin_weight(self, key: str) -> None:
        """There is nothing to unpin."""

    def unpin_all_weights(self) -> None:
        """There is nothing to unpin."""

    def patch_weight_to_device(self, key: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: whoever asks for one patched weight wants its values."""
        raise EditNotSharedError(
            f"A node asked for the patched weight '{key}' of {self.skeleton.title}, which the "
            "daemon holds."
        )

    # -- hooks ------------------------------------------------------------------------------------

    def patch_hooks(self, hooks: Any) -> None:
        """Note what the hooks add to the weights, with the strengths of this moment."""
        self.current_hooks = hooks
        self.skeleton.hook_patches = self.get_combined_hook_patches(hooks)

    def unpatch_hooks(self, whitelist_keys_set: Any = None) -> None:
        """Note that no hook adds anything."""
        self.current_hooks = None
        self.skeleton.hook_patches = {}

    # -- copies -----------------------------------------------------------------------------------

    def clone(self, *_: Any, **options: Any) -> SkeletonPatcher:
        """Return a clone of the same remote weights, whatever kind of clone was asked for."""
        override = options.get("model_override")
        copy = super().clone(**({"model_override": override} if override is not None else {}))
        copy.skeleton.patchers.add(copy)
        return copy

    def moved_to(self, root: torch.nn.Module) -> SkeletonPatcher:
        """Return a clone for another skeleton of the same model."""
        copy = self.clone()
        self.skeleton.patchers.discard(copy)
        copy.model = root
        # What was taken off or put on belongs to the other tree.
        copy.backup, copy.hook_backup, copy.object_patches_backup = {}, {}, {}
        copy.skeleton.patchers.add(copy)
        return copy

    def deepclone_multigpu(
        self, new_load_device: torch.device | None = None, models_cache: Any = None
    ) -> SkeletonPatcher:
        """Return a clone whose results go to another device; the daemon's device stays."""
        copy = self.clone()
        if new_load_device is not None:
            copy.load_device = new_load_device
            text = (
                f"{self.skeleton.title} runs on the daemon's device; only its results go to "
                f"{new_load_device}."
            )
            self.skeleton.models.note(text)
            log_once(log, 20, text, "%s", text)
        return copy

    def __copy__(self) -> SkeletonPatcher:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.skeleton.patchers.add(made)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> SkeletonPatcher:
        made = self.moved_to(copied_module(self.model, memo))
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CannotPickleError(
            f"{self.skeleton.title} is in the daemon and cannot be pickled.",
            "Save the model with one of ComfyUI's save nodes.",
        )

    def model_state_dict_for_saving(
        self, model: torch.nn.Module | None = None, prefix: str = ""
    ) -> dict[str, torch.Tensor]:
        """Return the weights with this patcher's patches, fetched from the daemon."""
        return fetch_state_dict(self.skeleton, self)

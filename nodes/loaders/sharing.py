"""Put what is loaded already into the daemon: the same model from the same file, with the same LoRAs.

Where an object came from is what ComfyUI's loaders write down for copies on other devices (since 0.24).
What cannot be carried over without changing the result stays as it is, and the reason is said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd

from ...luna_daemon.gguf_models.loading import load_gguf_clip_patcher
from ...utils.errors import InputError
from ...utils.model_types import VAE_ROLE
from ...utils.routing.choice import ENCODER_LIST, VAE_LIST, ClipPart, VaePart
from ...utils.weights.shelf import ModelFile
from ..model_source import ModelSource

# Edits of a patcher that are neither weight patches nor the bookkeeping of a load.
_EDITS = (
    "object_patches",
    "hook_patches",
    "wrappers",
    "callbacks",
    "additional_models",
    "injections",
)
_HARMLESS_OBJECTS = {"manual_cast_dtype"}
_CLIP_STATE = ("layer_idx", "use_clip_schedule", "apply_hooks_to_conds", "tokenizer_options")


class KeptModels:
    """The source that gives back what was there already."""

    label = "local"

    def __init__(self, clip: Any = None, vae: Any = None) -> None:
        self.notes: list[str] = []
        self._clip, self._vae = clip, vae

    def prepare(self) -> None:
        """Nothing has to be got ready."""

    def open_clip(self, part: ClipPart) -> Any:
        """Return the CLIP."""
        return self._clip

    def open_vae(self, part: VaePart) -> Any:
        """Return the VAE."""
        return self._vae

    def open_clip_vision(self, file: ModelFile) -> Any:
        """There is none."""
        raise InputError("There is no image encoder here to share.")


def share_clip(clip: Any, source: ModelSource) -> tuple[Any, str]:
    """Return a CLIP in the daemon for one that is loaded, and a word for the status."""
    if _is_shared(clip):
        return clip, "CLIP: in the daemon already"
    part, reason = clip_origin(clip)
    reason = reason or edits_of(clip.patcher)
    if part is None or reason:
        return clip, f"CLIP: local, since {reason}"
    shared = source.open_clip(part)
    if shared is clip:
        return clip, "CLIP: local"
    shared = shared.clone()
    for name in _CLIP_STATE:
        if hasattr(clip, name):
            setattr(shared, name, getattr(clip, name))
    _carry_patches(clip.patcher, shared.patcher)
    return shared, f"CLIP: {source.label}"


def share_vae(vae: Any, source: ModelSource) -> tuple[Any, str]:
    """Return a VAE in the daemon for one that is loaded, and a word for the status."""
    if _is_shared(vae):
        return vae, "VAE: in the daemon already"
    part, reason = vae_origin(vae)
    reason = reason or edits_of(vae.patcher)
    if part is None or reason:
        return vae, f"VAE: local, since {reason}"
    shared = source.open_vae(part)
    if shared is not vae:
        _carry_patches(vae.patcher, shared.patcher)
    return shared, f"VAE: {source.label}"


def clip_origin(clip: Any) -> tuple[ClipPart | None, str]:
    """Return what a CLIP was loaded from, or None and the reason why that cannot be said."""
    factory, arguments, reason = _loaded_by(clip.patcher)
    stock = getattr(comfy.sd, "load_clip_model_patcher", None)
    if factory is not None and factory in (stock, load_gguf_clip_patcher):
        paths, _, clip_type, options, *inside = arguments
        if options:
            return None, "it was loaded with options of its own (a device or a precision)"
        files = tuple(_file(ENCODER_LIST, path) for path in paths)
        return ClipPart(files, clip_type.name, inside=tuple(*filter(None, inside))), ""
    if factory is getattr(comfy.sd, "load_checkpoint_clip_patcher", None) and factory is not None:
        if any(arguments[2:]):
            return None, "it was loaded with options of its own (a device or a precision)"
        return ClipPart((_file("checkpoints", arguments[0]),), "", checkpoint=True), ""
    return None, reason


def vae_origin(vae: Any) -> tuple[VaePart | None, str]:
    """Return what a VAE was loaded from, or None and the reason why that cannot be said."""
    factory, arguments, reason = _loaded_by(vae.patcher)
    if factory is getattr(comfy.sd, "load_vae_patcher", None) and factory is not None:
        if arguments[2] is not None:
            return None, "it was loaded for a device of its own"
        return VaePart(_file(VAE_LIST, arguments[0])), ""
    if factory is getattr(comfy.sd, "load_checkpoint_vae_patcher", None) and factory is not None:
        return VaePart(_file("checkpoints", arguments[0]), checkpoint=True), ""
    return None, reason


def _loaded_by(patcher: Any) -> tuple[Callable[..., Any] | None, tuple[Any, ...], str]:
    origin = getattr(patcher, "cached_patcher_init", None)
    if not origin:
        return None, (), "the node that loaded it does not say which file it is from"
    return origin[0], origin[1], "it was loaded in a way that the daemon does not know"


def _is_shared(model: Any) -> bool:
    return type(model).__module__.endswith((".proxy.clip", f".proxy.{VAE_ROLE}"))


def edits_of(patcher: Any) -> str:
    """Return why a patcher's edits cannot be carried over; empty when they can."""
    for name in _EDITS:
        value = getattr(patcher, name, None)
        if isinstance(value, dict) and name == "object_patches":
            value = set(value) - _HARMLESS_OBJECTS
        if _is_filled(value):
            return f"a node has edited it ({name})"
    if getattr(patcher, "forced_hooks", None) is not None:
        return "it has hooks"
    return ""


def _is_filled(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_filled(inner) for inner in value.values())
    return bool(value)


def _carry_patches(source: Any, target: Any) -> None:
    if source.patches:
        target.patches = {key: list(patches) for key, patches in source.patches.items()}
        target.patches_uuid = source.patches_uuid


def _file(folder: str, path: str) -> ModelFile:
    return ModelFile(folder, Path(path).name, Path(path).resolve())

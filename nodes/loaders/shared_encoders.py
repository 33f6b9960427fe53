"""Text encoders of a second model, of which some are those that the first model has already.

In this process the second set's weights *are* the first's: the same memory, in modules of its own. ComfyUI's
patchers replace weights and put them back, so neither set sees what is patched into the other. In the daemon
both sets are read from the same files, which it maps.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import comfy.sd
import folder_paths
import torch

from ...luna_daemon.encoders_inside import StateDict, name_in_comfyui, read_encoders
from ...luna_daemon.gguf_models.loading import clip_of_tensors
from ...luna_daemon.gguf_models.weight import GgufWeight
from ...utils.errors import InputError
from ...utils.model_types import KINDS_OF_ROLE, NAME_OF_ROLE
from ...utils.routing.encoder_sharing import Encoder, SharedEncoders, places_of
from ..local_models import clip_type
from ..model_folders import shelf
from ..model_source import DaemonMode, ModelSource
from .memory import unload
from .sharing import clip_origin, edits_of

# Classes of ComfyUI's sets of text encoders, by the family that takes them.
_FAMILY_OF_CLASS = {
    "SDXLClipModel": "SDXL",
    "FluxClipModel": "Flux",
    "SD3ClipModel": "SD3",
    "ZImageTEModel": "Z-IMAGE",
}


def roles_of(clip: Any) -> tuple[str, ...]:
    """Return the roles of the text encoders that a CLIP has."""
    root = clip.cond_stage_model
    return tuple(
        role for role in KINDS_OF_ROLE if getattr(root, name_in_comfyui(role), None) is not None
    )


def family_of(clip: Any) -> str:
    """Return the family whose text encoders a CLIP has; empty when it is none that is known."""
    names = [kind.__name__ for kind in type(clip.cond_stage_model).__mro__]
    known = [_FAMILY_OF_CLASS[name] for name in names if name in _FAMILY_OF_CLASS]
    if known:
        return known[0]
    return "SD1.5" if "SD1ClipModel" in names and roles_of(clip) == ("clip_l",) else ""


def is_in_daemon(clip: Any) -> bool:
    """Are a CLIP's weights in the daemon? A proxy whose weights had to be loaded here has them here."""
    return getattr(clip.patcher, "skeleton", None) is not None


def open_encoders(
    encoders: SharedEncoders, first: Any, source: ModelSource, mode: DaemonMode
) -> tuple[Any, str]:
    """Return the second model's CLIP, and a phrase for the status.

    Args:
        encoders: Which are shared, and where the others are.
        first: The first model's CLIP, or None.
        source: Where models come from.
        mode: What the person chose.
    """
    if not encoders.shared:
        return source.open_clip(encoders.part({})), _told(encoders, source.label)
    if encoders.is_all_of(roles_of(first), family_of(first)):
        return first, _told(encoders, "as it is")
    if is_in_daemon(first) or mode is DaemonMode.FORCE_DAEMON:
        clip = source.open_clip(encoders.part(_places(first, encoders)))
        where = source.label
    else:
        clip, where = _merged_here(first, encoders), "local, in the same memory"
    _carry_patches(first, clip, encoders)
    return clip, _told(encoders, where)


def not_carried(first: Any) -> str:
    """Return a sentence about what of the first model's CLIP the second does not get; may be empty."""
    reason = edits_of(first.patcher)
    if not reason and first.layer_idx is not None:
        reason = "a node has set its clip skip"
    if not reason:
        return ""
    return f"Of primary_clip the second model gets the weights and LoRAs only: {reason}."


def _places(first: Any, encoders: SharedEncoders) -> Mapping[str, Encoder]:
    """Return where the first model's text encoders were loaded from."""
    if is_in_daemon(first):
        part = first.patcher.skeleton.origin.part
        inside = part.options.get("inside", "").split(",") if "inside" in part.options else ()
        files = [shelf.at(path) for path in part.files]
    else:
        origin, reason = clip_origin(first)
        if origin is None:
            raise InputError(
                f"primary_clip cannot be shared in the daemon: {reason}.",
                "Set daemon_mode to auto, or link text encoders from a loader of ComfyUI or Luna.",
            )
        inside = origin.inside
        files = [shelf.at(file.path) for file in origin.files]
    found = places_of(files, inside)
    missing = [NAME_OF_ROLE[role] for role in encoders.shared if role not in found]
    if missing:
        names = ", ".join(file.name for file in files)
        raise InputError(
            f"primary_clip cannot be shared in the daemon: which of {names} has the {missing[0]} is "
            "not known.",
            "Choose it with additional_clip, or unlink primary_clip.",
        )
    return found


def _merged_here(first: Any, encoders: SharedEncoders) -> Any:
    """Put a CLIP together from encoders that are in memory and others that are read."""
    unload(first.patcher)  # so that its weights are here, and plain
    has: dict[str, StateDict] = {}
    for role in encoders.family.text_encoders:
        if role in encoders.shared:
            has[role] = dict(_transformer(first, role).state_dict())
        else:
            one = encoders.added[role]
            (has[role],) = read_encoders([str(one.file.path)], [role if one.inside else ""])
    embeddings = folder_paths.get_folder_paths("embeddings")
    kind = clip_type(encoders.family.clip_type)
    tensors = list(has.values())
    if any(isinstance(weight, GgufWeight) for part in tensors for weight in part.values()):
        clip = clip_of_tensors(tensors, embeddings, kind)
    else:
        clip = comfy.sd.load_text_encoder_state_dicts(
            tensors, embedding_directory=embeddings, clip_type=kind
        )
    for role in encoders.shared:
        _use_same_memory(_transformer(first, role), _transformer(clip, role))
    return clip


def _transformer(clip: Any, role: str) -> torch.nn.Module:
    module: torch.nn.Module = getattr(clip.cond_stage_model, name_in_comfyui(role)).transformer
    return module


def _use_same_memory(first: torch.nn.Module, second: torch.nn.Module) -> None:
    """Let the weights of `second` lie where those of `first` are, where they are the same."""
    weights = dict(first.named_parameters())
    for name, own in list(second.named_parameters()):
        theirs = weights.get(name)
        if theirs is None or not _alike(own, theirs):
            continue
        parent, _, leaf = name.rpartition(".")
        # A parameter of its own: what moves one module must not move the other.
        shared = torch.nn.Parameter(theirs.detach(), requires_grad=False)
        second.get_submodule(parent)._parameters[leaf] = shared


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    plain = type(one.data) is torch.Tensor and type(other.data) is torch.Tensor
    same = one.dtype == other.dtype and one.device == other.device
    return plain and same and one.shape == other.shape and one.stride() == other.stride()


def _carry_patches(first: Any, second: Any, encoders: SharedEncoders) -> None:
    """Give the shared encoders of the second CLIP the LoRAs that they have in the first."""
    below = tuple(f"{name_in_comfyui(role)}." for role in encoders.shared)
    keys = set(second.cond_stage_model.state_dict())
    patches = {
        key: list(entries)
        for key, entries in first.patcher.patches.items()
        if key.startswith(below) and key in keys
    }
    if patches:
        second.patcher.patches = patches
        second.patcher.patches_uuid = uuid.uuid4()


def _told(encoders: SharedEncoders, where: str) -> str:
    parts = []
    if encoders.shared:
        parts.append(f"{_names(encoders.shared)} shared")
    for role, one in encoders.added.items():
        inside = "from " if one.inside else ""
        parts.append(f"{NAME_OF_ROLE.get(role, role)} {inside}'{one.file.name}'")
    return f"CLIP: {', '.join(parts)} ({where})"


def _names(roles: tuple[str, ...]) -> str:
    return " and ".join(NAME_OF_ROLE[role] for role in roles)

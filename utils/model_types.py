"""The model families and what each needs: one table for nodes, daemon and clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import InputError


@dataclass(frozen=True, slots=True)
class ModelType:
    """A family of models that share text encoders of the same kinds.

    Attributes:
        name: As written in the graph and on the wire.
        text_encoders: Roles of the text encoders, in the order in which ComfyUI's loader takes them.
        clip_type: Name of ComfyUI's CLIPType for these encoders; empty: it is chosen beside the family.
        vision: Does it come with an image encoder?
        family: What a file of it is called by utils/weights/contents.py; empty: any.
        joined: Is its conditioning the outputs of its encoders side by side? The embedded engine can
            make no other.
        spare: Roles that ComfyUI does without in a checkpoint that has the others.
    """

    name: str
    text_encoders: tuple[str, ...]
    clip_type: str = ""
    vision: bool = False
    family: str = ""
    joined: bool = False
    spare: tuple[str, ...] = ()


_CLIP, _SDXL, _FLUX = ("clip_l",), ("clip_l", "clip_g"), ("clip_l", "t5xxl")
MODEL_TYPES = {
    kind.name: kind
    for kind in (
        ModelType("SD1.5", _CLIP, "STABLE_DIFFUSION", family="SD1.5", joined=True),
        ModelType("SDXL", _SDXL, "STABLE_DIFFUSION", family="SDXL", joined=True),
        ModelType("SDXL+Vision", _SDXL, "STABLE_DIFFUSION", True, family="SDXL", joined=True),
        ModelType("Flux", _FLUX, "FLUX", family="Flux"),
        ModelType("Flux+Vision", _FLUX, "FLUX", True, family="Flux"),
        ModelType("SD3", ("clip_l", "clip_g", "t5xxl"), "SD3", family="SD3", spare=("t5xxl",)),
        ModelType("Z-IMAGE", ("qwen3",), "LUMINA2", family="Z-IMAGE"),
        ModelType("Other", ()),
    )
}
VAE_ROLE = "vae"
VISION_ROLE = "clip_vision"

# Which kinds of text encoder files (utils/weights/text_encoders.py) can take a role.
KINDS_OF_ROLE = {
    "clip_l": ("clip_l",),
    "clip_g": ("clip_g",),
    "t5xxl": ("t5xxl",),
    "qwen3": ("qwen3_4b",),
}
# How the roles are called in sentences.
NAME_OF_ROLE = {
    "clip_l": "CLIP-L",
    "clip_g": "CLIP-G",
    "t5xxl": "T5-XXL",
    "qwen3": "Qwen3-4B",
    VISION_ROLE: "CLIP vision",
    VAE_ROLE: "VAE",
}

# Which workers serve a role, and which of them a daemon of each service type has.
POOL_OF_ROLE = {
    **{role: "clip" for kind in MODEL_TYPES.values() for role in kind.text_encoders},
    VAE_ROLE: "vae",
}
# The ComfyUI objects that the daemon can hold whole, and which workers have them.
ModelKind = Literal["clip", "vae", "clip_vision"]
POOL_OF_KIND: dict[ModelKind, str] = {"clip": "clip", "vae": "vae", "clip_vision": "clip"}
POOLS_OF_SERVICE = {"full": ("clip", "vae"), "clip": ("clip",), "vae": ("vae",)}


def pool_of_role(role: str) -> str | None:
    """Return the pool that serves a role, or None when there is no such role."""
    return POOL_OF_ROLE.get(role)


def find_model_type(name: str) -> ModelType:
    """Return the family called `name`.

    Raises:
        InputError: There is none; the message lists those there are.
    """
    if name not in MODEL_TYPES:
        known = ", ".join(f"'{known}'" for known in MODEL_TYPES)
        raise InputError(f"There is no model type '{name}'.", f"Choose one of {known}.")
    return MODEL_TYPES[name]

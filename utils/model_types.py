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
        text_encoders: Roles of the text encoders, in the order in which their outputs are joined.
    """

    name: str
    text_encoders: tuple[str, ...]


MODEL_TYPES = {
    kind.name: kind
    for kind in (
        ModelType("SD1.5", ("clip_l",)),
        ModelType("SDXL", ("clip_l", "clip_g")),
    )
}
VAE_ROLE = "vae"

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

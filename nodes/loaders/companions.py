"""Text encoders and VAE for a diffusion model that comes alone: those that the daemon holds, or that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...luna_daemon.errors import ConnectionLostError
from ...utils.errors import InputError
from ...utils.model_types import NAME_OF_ROLE, VAE_ROLE, ModelType, find_model_type
from ...utils.routing.choice import ClipPart, VaePart
from ...utils.routing.fitting import choose_companion, files_for
from ...utils.weights.shelf import ModelFile
from ..daemon_access import client
from ..model_folders import shelf
from ..model_source import ModelSource

MODEL_TYPE_NAMES = {
    "sdxl": "SDXL",
    "sd15": "SD1.5",
    "flux": "Flux",
    "sd3": "SD3",
    "z-image": "Z-IMAGE",
    "auto": "",
}
# Classes of ComfyUI's model configurations. A family's descendants that take other text encoders, such as
# Flux2, are not among them: so the class itself counts, not what it inherits from.
_TYPE_OF_CONFIG = {
    "SD15": "SD1.5",
    "SDXL": "SDXL",
    "SSD1B": "SDXL",
    "Segmind_Vega": "SDXL",
    "KOALA_700M": "SDXL",
    "KOALA_1B": "SDXL",
    "Flux": "Flux",
    "FluxInpaint": "Flux",
    "FluxSchnell": "Flux",
    "SD3": "SD3",
    "ZImage": "Z-IMAGE",
}


@dataclass(frozen=True, slots=True)
class Companions:
    """What goes with a model; None where it was given."""

    clip: ClipPart | None
    vae: VaePart | None

    @property
    def is_empty(self) -> bool:
        """Was everything given?"""
        return self.clip is None and self.vae is None

    def clip_from(self, source: ModelSource) -> tuple[Any, str] | None:
        """Open the text encoders; None where they were given."""
        if self.clip is None:
            return None
        names = ", ".join(file.name for file in self.clip.files)
        return source.open_clip(self.clip), f"CLIP: {source.label}, {names}"

    def vae_from(self, source: ModelSource) -> tuple[Any, str] | None:
        """Open the VAE; None where it was given."""
        if self.vae is None:
            return None
        return source.open_vae(self.vae), f"VAE: {source.label}, {self.vae.file.name}"


def companions_of(
    model: Any, model_type: str, needs_clip: bool, needs_vae: bool
) -> tuple[ModelType, Companions]:
    """Return the model's family and what goes with it.

    Raises:
        InputError: The family cannot be told, or it is not clear which files to take.
    """
    family = _family(model, model_type)
    held = _names_in_daemon() if needs_clip or needs_vae else []
    clip = vae = None
    if needs_clip:
        files = tuple(_one(role, family, held) for role in family.text_encoders)
        clip = ClipPart(files, family.clip_type)
    if needs_vae:
        vae = VaePart(_one(VAE_ROLE, family, held))
    return family, Companions(clip, vae)


def family_name_of(model: Any) -> str:
    """Return the family of a loaded diffusion model; empty when it is none that is known."""
    return _TYPE_OF_CONFIG.get(_config_of(model), "")


def _config_of(model: Any) -> str:
    return type(getattr(model.model, "model_config", None)).__name__


def _family(model: Any, model_type: str) -> ModelType:
    if model_type != "auto":
        return find_model_type(MODEL_TYPE_NAMES[model_type])
    name = family_name_of(model)
    if not name:
        raise InputError(
            f"auto does not know which text encoders a model of the kind '{_config_of(model)}' takes.",
            "Choose a model_type, or load text encoders and VAE and link them.",
        )
    return find_model_type(name)


def _one(role: str, family: ModelType, held: Sequence[str]) -> ModelFile:
    fits = files_for(shelf, role, family.family)
    return choose_companion(fits, held, role, NAME_OF_ROLE[role], family.name)


def _names_in_daemon() -> list[str]:
    """Return "folder/name" of every model in the daemon, as its status has them; none if it is not there."""
    try:
        snapshot = client().status()
    except ConnectionLostError:
        return []  # it is started when the models are opened, and holds none yet
    return [
        model["name"]
        for device in snapshot["devices"].values()
        for worker in device["workers"]
        for model in worker["models"]
    ]

"""Which files of this machine would fit, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InputError
from ..model_types import KINDS_OF_ROLE, NAME_OF_ROLE, VAE_ROLE, VISION_ROLE
from ..weights.contents import FileKind
from ..weights.shelf import ModelFile, Shelf
from .choice import ENCODER_LIST, VAE_LIST, VISION_LIST

LATENT_CHANNELS = {"SD1.5": 4, "SDXL": 4, "SD3": 16, "Flux": 16, "Z-IMAGE": 16}
_SHOWN = 6


def encoder_files(shelf: Shelf, role: str) -> list[ModelFile]:
    """Return the files that can take the role of a text encoder."""
    return [
        file
        for file in shelf.files_in(ENCODER_LIST)
        if file.contents.kind is FileKind.TEXT_ENCODER
        and file.contents.encoder in KINDS_OF_ROLE[role]
    ]


def vae_files(shelf: Shelf, family: str) -> list[ModelFile]:
    """Return the VAEs whose latents are shaped as those of a family; all for an unknown one."""
    files = [file for file in shelf.files_in(VAE_LIST) if file.contents.kind is FileKind.VAE]
    channels = LATENT_CHANNELS.get(family)
    if channels is None:
        return files
    return [
        file
        for file in files
        if file.contents.latent_channels == channels and not file.contents.is_video
    ]


def vision_files(shelf: Shelf) -> list[ModelFile]:
    """Return the image encoders."""
    return [file for file in shelf.files_in(VISION_LIST) if is_vision(file)]


def is_vision(file: ModelFile) -> bool:
    """Does the file have an image encoder?"""
    return file.contents.kind is FileKind.CLIP_VISION or file.contents.has_vision


def files_for(shelf: Shelf, role: str, family: str) -> list[ModelFile]:
    """Return the files that would fit a role of a family."""
    if role == VAE_ROLE:
        return vae_files(shelf, family)
    if role == VISION_ROLE:
        return vision_files(shelf)
    return encoder_files(shelf, role)


def choose_companion(
    fits: Sequence[ModelFile], held: Sequence[str], role: str, label: str, family: str
) -> ModelFile:
    """Return the one file to take for a role: those that the daemon holds already come first.

    Args:
        fits: Files that would do.
        held: "folder/name" of what the daemon holds.
        role: The role.
        label: How sentences call it.
        family: Which model it is for.

    Raises:
        InputError: None fits, or several do and none is more fitting than the others.
    """
    names = set(held)
    shared = [file for file in fits if f"{file.path.parent.name}/{file.path.name}" in names]
    candidates = shared or fits
    if len(candidates) == 1:
        return candidates[0]
    why = "several files fit" if fits else "nothing fits"
    raise InputError(
        f"{label}: {family} needs it, and {why}. {offer(candidates, role)}",
        "Load the one you want and link it.",
    )


def offer(files: Sequence[ModelFile], role: str) -> str:
    """Return the sentence that says what would satisfy a slot."""
    if files:
        return f"On this machine would fit: {quoted(file.name for file in files)}."
    folder = {VAE_ROLE: VAE_LIST, VISION_ROLE: VISION_LIST}.get(role, ENCODER_LIST)
    name = NAME_OF_ROLE.get(role, role)
    return f"No file in models/{folder} is a fitting {name}: put one there."


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes, the first few where there are many."""
    every = [f"'{name}'" for name in names]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more

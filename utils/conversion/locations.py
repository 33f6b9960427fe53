"""Where converted files lie, and which of them were made of a source as it is now."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from ..errors import InputError
from ..log import get_logger, log_once
from ..weights.model_parts import base_name
from .plan import RECIPE_VERSION
from .sidecars import Sidecar, fits, now, read_sidecar, write_sidecar
from .source_files import Identity
from .targets import GGUF, Target

_log = get_logger("conversion")
# How exactly a sidecar knows when a file was used last.
_USE_STEP = timedelta(hours=1)
_MODELS = "models"  # ComfyUI's folder of all models


def find_converted(
    source: Path, identity: Identity, target: Target, folder: Path
) -> tuple[Path, Sidecar] | None:
    """Return the file that was made of a source, if it is still that source and that file."""
    found = (find_at(path, identity, target) for path in _candidates(source, target, folder))
    return next(filter(None, found), None)


def find_at(path: Path, identity: Identity, target: Target) -> tuple[Path, Sidecar] | None:
    """Return a file, if it was made of this source for this target and is still as it was made."""
    sidecar = read_sidecar(path)
    if (
        sidecar is not None
        and sidecar.identity == identity
        and sidecar.target == target.name
        and sidecar.recipe == RECIPE_VERSION
        and fits(path, sidecar)
    ):
        return path, sidecar
    return None


def own_place(source: Path, place: Path) -> Path:
    """Return a place that a person chose, if nothing is lost there.

    Raises:
        InputError: There is a file that was not made of this source, or it is the source.
    """
    sidecar = read_sidecar(place)
    if place.exists() and (sidecar is None or sidecar.source != str(source)):
        raise InputError(
            f"There is a file '{place}' already, which was not made of '{source.name}'.",
            "Choose another name, or remove it first.",
        )
    return place


def place_for(source: Path, target: Target, folder: Path) -> Path:
    """Return where a source is converted to: a name that is free, or that it has already."""
    plain, marked = _places(source, target, folder)
    sidecar = read_sidecar(plain)
    if sidecar is None:
        return marked if plain.exists() else plain  # what has no sidecar is none of ours
    return plain if sidecar.source == str(source) else marked


def default_folder(source: Path) -> Path:
    """Return the folder for diffusion models that belongs to a source: of its ComfyUI, or its own folder."""
    models = models_folder(source)
    return models / "unet" if models.name == _MODELS else models


def models_folder(source: Path) -> Path:
    """Return the models folder that a source lies in, or its own folder where there is none."""
    above = (folder for folder in source.absolute().parents if folder.name == _MODELS)
    return next(above, source.absolute().parent)


def chosen_file(source: Path, target: Target, folder: Path, own: str, name: str) -> Path:
    """Return the file that a person chose, or the folder where nothing was chosen.

    Args:
        source: What is converted.
        target: The precision.
        folder: The folder.
        own: What the person wrote as the folder; empty: it is the usual one.
        name: What the person wrote as the file's name; the ending may be left out.

    Raises:
        InputError: The name is a path.
    """
    name = name.strip()
    if not name and not own:
        return folder
    usual = target.file_name(base_name(source))
    if not name:
        return folder / usual.name
    if Path(name).name != name or name in ("..", "."):
        raise InputError(
            f"'{name}' is a path.", "Write only a name, and the folder into output_directory."
        )
    file = name if name.lower().endswith(usual.suffix) else f"{name}{usual.suffix}"
    return folder / file if own else folder / usual.parent / file


def note_use(path: Path, sidecar: Sidecar) -> Sidecar:
    """Note that a converted file is used now."""
    if datetime.fromisoformat(now()) - datetime.fromisoformat(sidecar.used) < _USE_STEP:
        return sidecar
    used = replace(sidecar, used=now())
    try:
        write_sidecar(path, used)
    except InputError as error:
        log_once(_log, logging.WARNING, str(path), "Its use cannot be noted: %s", error)
    return used


def _places(source: Path, target: Target, folder: Path) -> tuple[Path, Path]:
    """Return the usual place, and that of a source whose name another one has too."""
    mark = hashlib.sha256(str(source).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    base = base_name(source)
    return folder / target.file_name(base), folder / target.file_name(base, mark)


def old_places(source: Path, target: Target, folder: Path) -> tuple[Path, ...]:
    """Return where other releases and packs that take these names put such files, without a sidecar."""
    base, kind = base_name(source), target.name.removeprefix("gguf_")
    ending = GGUF if target.container == GGUF else "safetensors"
    names = (f"{base}_{kind}.{ending}", f"{base}_{kind}_unet.{ending}")
    beside = folder.parent / "diffusion_models"
    places = (folder / "optimized", beside / "converted", beside / "gguf")
    usual = folder / target.file_name(base)
    return (usual, *(place / name for place in places for name in names))


def _candidates(source: Path, target: Target, folder: Path) -> Iterator[Path]:
    yield from _places(source, target, folder)
    yield from old_places(source, target, folder)

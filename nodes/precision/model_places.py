"""ComfyUI's folders as the nodes for conversion use them, its progress bar and its Cancel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths

from ...utils.conversion.devices import CPU
from ...utils.conversion.refusal import ConversionCancelledError
from ...utils.conversion.streaming import Progress, Run
from ...utils.errors import InputError
from ...utils.files_below import folder_below, place_below

_SOURCES = ("checkpoints", "diffusion_models")
_MODELS = "diffusion_models"
_USUAL_FOLDER = "unet"


def source_file(text: str) -> Path:
    """Return a checkpoint or diffusion model by its name in ComfyUI's lists, or by its whole path.

    Raises:
        InputError: There is none, or it lies outside of the folders for such models.
    """
    text = text.strip().strip('"')
    for name in _SOURCES:
        found = folder_paths.get_full_path(name, text) if text else None
        if found is not None:
            return Path(found)
    path = Path(os.path.abspath(text))  # not resolved: links inside of the folders may lead out
    folders = [Path(folder) for name in _SOURCES for folder in folder_paths.get_folder_paths(name)]
    if text and path.is_file() and any(path.is_relative_to(folder) for folder in folders):
        return path
    listed = ", ".join(f"'{folder}'" for folder in dict.fromkeys(folders))
    raise InputError(
        f"There is no model '{text}' in ComfyUI's folders for checkpoints and diffusion models.",
        f"Write its name as the loaders list it, or its path below {listed}.",
    )


def source_folder(text: str) -> Path:
    """Return a folder of checkpoints or diffusion models; empty: the first folder for checkpoints."""
    roots = [folder for name in _SOURCES for folder in folder_paths.get_folder_paths(name)]
    return folder_below(roots, text, _SOURCES[0])


def existing_folder(text: str) -> Path:
    """Return a folder of converted models; a folder that somebody names has to be there.

    Raises:
        InputError: It is not there, or it lies outside of ComfyUI's folders for diffusion models.
    """
    folder = model_folder(text)
    if text.strip() and not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.", "Write a folder that is there.")
    return folder


def model_folder(text: str) -> Path:
    """Return a folder for converted models, which need not be there yet; empty: models/unet.

    Raises:
        InputError: It lies outside of ComfyUI's folders for diffusion models.
    """
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(_MODELS)]
    if not text.strip():
        return next((folder for folder in folders if folder.name == _USUAL_FOLDER), folders[0])
    for folder in folders:
        with contextlib.suppress(InputError):  # another folder may have it
            return place_below(folder, text)
    listed = ", ".join(f"'{folder}'" for folder in folders)
    raise InputError(
        f"'{text}' lies outside of ComfyUI's folders for diffusion models: {listed}.",
        "Write a path below one of them.",
    )


@contextlib.contextmanager
def watched() -> Iterator[Run]:
    """Convert on the device that ComfyUI computes on, show progress on the node, and end when it is cancelled."""
    bar = comfy.utils.ProgressBar(1)
    cancelled = comfy.model_management.processing_interrupted

    def show(progress: Progress) -> None:
        if not cancelled():  # else the bar would raise in the middle of the work
            bar.update_absolute(progress.done, progress.total)

    try:
        yield Run(show, cancelled, _device())
    except ConversionCancelledError:
        comfy.model_management.throw_exception_if_processing_interrupted()
        raise


def _device() -> str:
    """Return the name of ComfyUI's device; the CPU for kinds that nobody converts on."""
    device = comfy.model_management.get_torch_device()
    return str(device) if device.type == "cuda" else CPU

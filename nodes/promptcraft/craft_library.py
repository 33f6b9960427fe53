"""The libraries of categories, and the inputs that they come from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...utils.log import get_logger
from ...utils.promptcraft import CraftLibrary
from ...utils.promptcraft.crafting import Crafted
from ..wildcard_folders import wildcard_folders

MAX_LIBRARIES = 16  # that stay in memory, each for other folders or other data of a node

log = get_logger("promptcraft")


def library_of(wildcards_path: str, inline_data: str) -> CraftLibrary:
    """Return the library of a folder, and of data that a node holds.

    Raises:
        InputError: The folder is none of those for wildcards.
    """
    return _library(wildcard_folders(wildcards_path), inline_data)


@functools.lru_cache(maxsize=MAX_LIBRARIES)
def _library(folders: tuple[Path, ...], inline_data: str) -> CraftLibrary:
    return CraftLibrary(folders, inline_data)


def stamp_of(seed: int | None, wildcards_path: str, inline_data: str) -> Any:
    """Return what decides whether a node has to run again beside its inputs."""
    if seed == -1:
        return float("nan")  # equal to nothing: every run draws anew
    return library_of(wildcards_path or "", inline_data or "").stamp()


def log_warnings(crafted: Crafted) -> None:
    """Write what was noticed into ComfyUI's log."""
    for warning in crafted.warnings:
        log.warning("[Luna] PromptCraft: %s", warning)


def path_input() -> io.Input:
    """Return the input for the folder that categories come from."""
    return io.String.Input(
        "wildcards_path",
        default="",
        optional=True,
        tooltip="A folder below models/wildcards, or below others that ComfyUI knows as 'wildcards'. "
        "Empty: all of them.",
    )


def inline_input() -> io.Input:
    """Return the input for data without a file."""
    return io.String.Input(
        "inline_data",
        default="",
        optional=True,
        multiline=True,
        dynamic_prompts=False,
        tooltip="Categories and rules without a file, as YAML: a key for each file that there would be, such as "
        "'hats:' and 'hats.constraint:'. They come before files of the same name.",
    )

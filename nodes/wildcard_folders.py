"""ComfyUI's folders for wildcards."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import folder_paths

from ..utils.errors import InputError
from ..utils.files_below import find_below
from ..utils.wildcards import Library
from ..utils.wildcards.places import chosen_folders

WILDCARDS = "wildcards"
_EXTENSIONS = {".txt", ".yaml", ".yml", ".json"}
MAX_LIBRARIES = 16  # that stay in memory, each for other folders


def register_wildcards() -> None:
    """Tell ComfyUI of models/wildcards; extra_model_paths.yaml may name other folders for it."""
    folder = os.path.join(folder_paths.models_dir, WILDCARDS)
    folder_paths.add_model_folder_path(WILDCARDS, folder)
    _, extensions = folder_paths.folder_names_and_paths[WILDCARDS]
    extensions.update(_EXTENSIONS)


def wildcard_folders(*names: str) -> tuple[Path, ...]:
    """Return the folders that are meant, each once; all of them when every name is empty.

    Raises:
        InputError: One is none of those for wildcards, and lies below none of them.
    """
    roots = folder_paths.get_folder_paths(WILDCARDS)
    chosen = [name for name in names if name.strip()] or [""]
    return tuple(dict.fromkeys(f for name in chosen for f in chosen_folders(roots, name)))


def wildcard_library(*names: str) -> Library:
    """Return the library of these folders; it is kept, and notices when files change.

    Raises:
        InputError: One is none of those for wildcards, and lies below none of them.
    """
    return _library(wildcard_folders(*names))


@functools.lru_cache(maxsize=MAX_LIBRARIES)
def _library(folders: tuple[Path, ...]) -> Library:
    return Library(folders)


def wildcard_file(name: str, folder: str = "") -> Path:
    """Return where a file is: below the folder, or where the whole list has it.

    Raises:
        InputError: It is not there, or lies outside.
    """
    chosen = wildcard_folders(folder)
    roots = wildcard_folders()
    path = find_below(dict.fromkeys((*chosen, *roots)), name)
    if not any(path.is_relative_to(root) for root in chosen):
        raise InputError(
            f"'{name}' is not in '{folder}'.", "Leave the folder empty, or choose another file."
        )
    return path

"""The LoRA and embedding files of this ComfyUI, and its pools and lists of prompts."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...utils.errors import InputError
from ...utils.files_below import find_below

NO_FILE = "None"
POOL_LIST = "lora_pools"
_POOL_EXTENSIONS = {".yaml", ".yml"}


def lora_names() -> list[str]:
    """Return the LoRAs, as ComfyUI lists them."""
    return list(folder_paths.get_filename_list("loras"))


def embedding_names() -> list[str]:
    """Return the embeddings, as ComfyUI lists them."""
    return list(folder_paths.get_filename_list("embeddings"))


def lora_path(name: str) -> Path:
    """Return where a LoRA of the list is. Other names have no path, whatever they lead to.

    Raises:
        InputError: It is not in the list.
    """
    if name in lora_names():
        found = folder_paths.get_full_path("loras", name)
        if found is not None:
            return Path(found)
    raise InputError(f"There is no LoRA '{name}'.", "Reload the page, and choose again.")


def register_pools() -> None:
    """Tell ComfyUI of models/lora_pools; extra_model_paths.yaml may name other folders for it."""
    folder = os.path.join(folder_paths.models_dir, POOL_LIST)
    folder_paths.add_model_folder_path(POOL_LIST, folder)
    _, extensions = folder_paths.folder_names_and_paths[POOL_LIST]
    extensions.update(_POOL_EXTENSIONS)


def pool_names() -> list[str]:
    """Return the pool files."""
    return list(folder_paths.get_filename_list(POOL_LIST))


def pool_path(name: str) -> Path:
    """Return where a pool file is.

    Raises:
        InputError: There is none of this name in the folders for pools.
    """
    return find_below(folder_paths.get_folder_paths(POOL_LIST), name)


def prompt_list_names() -> list[str]:
    """Return the JSON files of ComfyUI's input folder."""
    folder = Path(folder_paths.get_input_directory())
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".json")


def prompt_list_path(name: str) -> Path:
    """Return where a JSON file of the input folder is.

    Raises:
        InputError: There is none of this name.
    """
    return find_below([folder_paths.get_input_directory()], name)


def text_of(path: Path) -> str:
    """Return what a text file says.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"'{path.name}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path.name}' is not a UTF-8 text.", "Save it as UTF-8.") from error


def stamp_of(path: Path) -> list[int]:
    """Return size and time of a file, which change when it does."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]

"""ComfyUI's lists of model files, as our pure code wants them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ..utils.file_names import spellings
from ..utils.files_below import folders_elsewhere
from ..utils.routing.choice import ENCODER_LIST, IP_ADAPTER_LIST
from ..utils.weights.shelf import Shelf

# ComfyUI's lists with our lists of GGUF files beside them; the names are those that other packs use.
GGUF_LISTS = {"diffusion_models": "unet_gguf", ENCODER_LIST: "clip_gguf"}
GGUF_EXTENSION = ".gguf"
_EXTENSIONS = {".safetensors", ".sft", ".bin"}
# What the daemon may read for us: what the router chooses from, and small VAEs that a tunnel may find.
_SHARED_LISTS = ("checkpoints", "text_encoders", "vae", "vae_approx", "clip_vision")


def register_ip_adapters() -> None:
    """Tell ComfyUI of models/ipadapter, which it does not know by itself."""
    folder = os.path.join(folder_paths.models_dir, IP_ADAPTER_LIST)
    folder_paths.add_model_folder_path(IP_ADAPTER_LIST, folder)
    _, extensions = folder_paths.folder_names_and_paths[IP_ADAPTER_LIST]
    if not extensions:  # an IP-Adapter pack may have been here first
        extensions.update(_EXTENSIONS)


def register_gguf_files() -> None:
    """Let GGUF files be listed: in the folders of diffusion models and of text encoders."""
    known = folder_paths.folder_names_and_paths
    for usual, ours in GGUF_LISTS.items():
        # The same list of folders, so that folders that are added later count for both.
        known.setdefault(ours, (known[usual][0], {GGUF_EXTENSION}))


def names_in(name: str) -> Sequence[str]:
    """Return the files of a list, GGUF files among them, each once."""
    lists = (name, GGUF_LISTS.get(name, name))
    known = [each for each in lists if each in folder_paths.folder_names_and_paths]
    return list(
        dict.fromkeys(file for each in known for file in folder_paths.get_filename_list(each))
    )


def path_of(name: str, file: str) -> str | None:
    """Return where a file of a list is, or None."""
    lists = (name, GGUF_LISTS.get(name, name))
    known = [each for each in lists if each in folder_paths.folder_names_and_paths]
    paths = (
        folder_paths.get_full_path(each, spelled) for spelled in spellings(file) for each in known
    )
    return next((path for path in paths if path is not None), None)


def loader_node(name: str) -> Any:
    """Return another pack's node class, or None where that pack is not installed."""
    comfyui_nodes = sys.modules.get("nodes")  # ComfyUI's own module of that name
    return getattr(comfyui_nodes, "NODE_CLASS_MAPPINGS", {}).get(name)


def model_roots() -> list[Path]:
    """Return the folders that the daemon has to read for this ComfyUI, outermost ones only.

    Where folders or files in them are links, as to another disk, those that they lead to are among them.
    """
    folders = {
        Path(folder).resolve()
        for name in _SHARED_LISTS
        for folder in folder_paths.get_folder_paths(name)
    }
    folders.add(Path(folder_paths.models_dir).resolve())
    paths = (path_of(name, file) for name in _SHARED_LISTS for file in names_in(name))
    folders |= folders_elsewhere(folders, [path for path in paths if path is not None])
    return sorted(folder for folder in folders if not folders & set(folder.parents))


shelf = Shelf(names_in, path_of)

"""ComfyUI's lists of model files, as our pure code wants them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ..utils.routing.choice import IP_ADAPTER_LIST
from ..utils.weights.shelf import Shelf

GGUF_LIST = "unet_gguf"
GGUF_LOADER = "UnetLoaderGGUF"
_EXTENSIONS = {".safetensors", ".sft", ".bin"}
# What the daemon may read for us: the lists that the router chooses from.
_SHARED_LISTS = ("checkpoints", "text_encoders", "vae", "clip_vision")


def register_ip_adapters() -> None:
    """Tell ComfyUI of models/ipadapter, which it does not know by itself."""
    folder = os.path.join(folder_paths.models_dir, IP_ADAPTER_LIST)
    folder_paths.add_model_folder_path(IP_ADAPTER_LIST, folder)
    _, extensions = folder_paths.folder_names_and_paths[IP_ADAPTER_LIST]
    if not extensions:  # an IP-Adapter pack may have been here first
        extensions.update(_EXTENSIONS)


def names_in(name: str) -> Sequence[str]:
    """Return the files of a list; GGUF files only where there is a loader for them."""
    if name == GGUF_LIST and gguf_loader() is None:
        return []
    if name not in folder_paths.folder_names_and_paths:
        return []
    return list(folder_paths.get_filename_list(name))


def path_of(name: str, file: str) -> str | None:
    """Return where a file of a list is, or None."""
    if name not in folder_paths.folder_names_and_paths:
        return None
    found: str | None = folder_paths.get_full_path(name, file)
    return found


def gguf_loader() -> Any:
    """Return the node class that loads GGUF diffusion models, if a pack brings one."""
    comfyui_nodes = sys.modules.get("nodes")  # ComfyUI's own module of that name
    return getattr(comfyui_nodes, "NODE_CLASS_MAPPINGS", {}).get(GGUF_LOADER)


def model_roots() -> list[Path]:
    """Return the folders that the daemon has to read for this ComfyUI, outermost ones only."""
    folders = {
        Path(folder).resolve()
        for name in _SHARED_LISTS
        for folder in folder_paths.get_folder_paths(name)
    }
    folders.add(Path(folder_paths.models_dir).resolve())
    return sorted(folder for folder in folders if not folders & set(folder.parents))


shelf = Shelf(names_in, path_of)

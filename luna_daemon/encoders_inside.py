"""One text encoder out of a checkpoint that has several models inside, as its own file would have it.

Used where ComfyUI's objects are made: in the worker, in the proxies (on tensors without values), and in
ComfyUI's own process. ComfyUI's configuration of the checkpoint's family knows the layouts; nothing of
them is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.utils
import torch

from ..utils.errors import ModelFileError
from ..utils.model_types import NAME_OF_ROLE
from .gguf_models.reading import is_gguf, read_gguf

StateDict = dict[str, torch.Tensor]
# How ComfyUI calls a role's encoder in its modules; the others have the role's own name.
_NAME_IN_COMFYUI = {"qwen3": "qwen3_4b"}


def name_in_comfyui(role: str) -> str:
    """Return the attribute that a role's encoder is in a CLIP's module tree."""
    return _NAME_IN_COMFYUI.get(role, role)


def encoder_tensors(
    tensors: Mapping[str, torch.Tensor], metadata: Any, role: str, file: str
) -> StateDict:
    """Return one text encoder of a checkpoint, named as in a file that holds nothing else.

    Args:
        tensors: The checkpoint's tensors; they may lie on `meta`.
        metadata: Of its file.
        role: Which encoder; a role of utils/model_types.py.
        file: How an error calls the file.

    Raises:
        ModelFileError: ComfyUI does not know the checkpoint, or it has no such encoder.
    """
    prefix = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    config = comfy.model_detection.model_config_from_unet(tensors, prefix, metadata=metadata)
    encoders = config.process_clip_state_dict(dict(tensors)) if config is not None else {}
    below = f"{name_in_comfyui(role)}.transformer."
    found: StateDict = {
        name.removeprefix(below): value
        for name, value in encoders.items()
        if name.startswith(below)
    }
    if not found:
        raise ModelFileError(
            f"ComfyUI finds no {NAME_OF_ROLE.get(role, role)} in '{file}'.", "Choose another file."
        )
    if hasattr(comfy.utils, "convert_old_quants"):
        found, _ = comfy.utils.convert_old_quants(found, model_prefix="", metadata={})
    return found


def read_encoders(files: Sequence[str], inside: Sequence[str]) -> list[StateDict]:
    """Read text encoders from files, as ComfyUI's `load_clip` reads them.

    Args:
        files: Paths, of GGUF files too.
        inside: For each file the role of the encoder to take out of it, or "" where it is the encoder.
    """
    read: list[StateDict] = []
    for path, role in zip(files, inside, strict=True):
        if is_gguf(Path(path)):
            read.append(read_gguf(Path(path)))
            continue
        tensors, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
        if role:
            tensors = encoder_tensors(tensors, metadata, role, Path(path).name)
        elif hasattr(comfy.utils, "convert_old_quants"):
            tensors, _ = comfy.utils.convert_old_quants(tensors, model_prefix="", metadata=metadata)
        read.append(tensors)
    return read

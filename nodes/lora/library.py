"""The LoRA files that this process has read: once each, for all nodes and models."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import comfy.lora_convert
import comfy.model_management
import comfy.utils
import folder_paths
import safetensors
import torch

from ...luna_daemon.config import MIB
from ...luna_daemon.config_sources import resolve as settings
from ...utils.errors import ModelFileError
from ...utils.loras.file_cache import FileCache, Stamp
from ...utils.loras.names import resolve
from ...utils.weights.safetensors_header import read_safetensors_header
from ...utils.weights.shelf import READABLE

LIST = "loras"


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA file as ComfyUI has it after loading.

    Attributes:
        path: Of the file.
        weights: Name → tensor, in RAM and independent of the file.
        metadata: Of the header; None where the format has none.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    metadata: dict[str, str] | None


@dataclass(frozen=True, eq=False)
class Opened:
    """A LoRA and which state of its file it is."""

    name: str
    stamp: Stamp
    lora: Lora


def known_names() -> list[str]:
    """Return ComfyUI's list of LoRAs."""
    return list(folder_paths.get_filename_list(LIST))


def open_lora(name: str) -> Opened:
    """Return a LoRA by its name in ComfyUI's list; the file is read when it is new or has changed.

    Raises:
        InputError: There is none of that name.
        ModelFileError: It is damaged or gone.
    """
    name = resolve(name, known_names())
    path = folder_paths.get_full_path(LIST, name)
    if path is None:
        raise ModelFileError(
            f"The LoRA '{name}' is in ComfyUI's list, but its file is gone.",
            "Press R in ComfyUI to read the lists anew.",
        )
    stamp, lora = cache().get(Path(path))
    return Opened(name, stamp, lora)


@functools.cache
def cache() -> FileCache[Lora]:
    """Return the files that all nodes of this process share."""
    return FileCache(settings().config.lora_cache_mb * MIB, read_lora)


def read_lora(path: Path) -> tuple[Lora, int]:
    """Read a file with ComfyUI's loader, and tell how much RAM it takes."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    if path.suffix.lower() in READABLE:
        read_safetensors_header(path)  # its errors say what is wrong
    try:
        loaded, metadata = comfy.utils.load_torch_file(
            str(path), safe_load=True, return_metadata=True
        )
    except _UNREADABLE as error:
        raise ModelFileError(
            f"The LoRA '{path}' cannot be read: {error}", "Download it again."
        ) from error
    if not isinstance(loaded, dict):
        raise ModelFileError(f"The LoRA '{path}' holds no weights by name.")
    # What the loader gives may still be pages of the file, which reads them as they are used.
    weights = {
        name: value.clone() for name, value in loaded.items() if isinstance(value, torch.Tensor)
    }
    weights = comfy.lora_convert.convert_lora(weights)
    return Lora(path, weights, metadata), sum(tensor.nbytes for tensor in weights.values())


def _reading_errors() -> tuple[type[Exception], ...]:
    """What reading a damaged file raises: Python's own, safetensors' error, and the unpickler's."""
    unpickling: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]
    own = (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError)
    return (safetensors.SafetensorError, unpickling, *own)


_UNREADABLE = _reading_errors()

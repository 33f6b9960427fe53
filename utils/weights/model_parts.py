"""Models in parts, as diffusers saves large ones: several files, and an index of what is in which.

ComfyUI loads whole files only; conversion makes one of the parts. Standard library only.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ..errors import ModelFileError

_INDEX = ".safetensors.index.json"
_PART = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.safetensors)")
# What diffusers calls the file of every model; their folder's name, or that above it, tells them apart.
_NO_NAME = re.compile(r"(?:diffusion_pytorch_model|model)(?:\.(?:fp16|bf16|fp32))?")
_FOLDERS_OF_PARTS = ("transformer", "unet")


def is_index(path: Path) -> bool:
    """Is this the name of the index of a model in parts?"""
    return path.name.endswith(_INDEX)


def is_part(path: Path) -> bool:
    """Is this the name of a part of a model?"""
    return _PART.fullmatch(path.name) is not None


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the parts of the model that a file is a part or the index of; else the file alone.

    Raises:
        ModelFileError: It is an index that cannot be read.
    """
    if is_index(path):
        return _in_index(path)
    part = _PART.fullmatch(path.name)
    if part is None:
        return (path,)
    count = int(part["count"])
    names = (f"{part['base']}-{n:05}-of-{count:05}{part['ending']}" for n in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def is_later_part(path: Path) -> bool:
    """Tell whether a file is a part of a model, and not its first."""
    part = _PART.fullmatch(path.name)
    return part is not None and int(part["number"]) != 1


def base_name(path: Path) -> str:
    """Return what a source is called: its file's name, or its folder's where all files have that name."""
    part = _PART.fullmatch(path.name)
    base = part["base"] if part else path.name.removesuffix(_INDEX)
    base = base if base != path.name else path.stem
    if not _NO_NAME.fullmatch(base):
        return base
    folder = path.parent.parent if path.parent.name in _FOLDERS_OF_PARTS else path.parent
    return folder.name or base


def _in_index(path: Path) -> tuple[Path, ...]:
    try:
        names = set(json.loads(path.read_bytes())["weight_map"].values())
        if not names or any(Path(name).name != name for name in names):
            raise ValueError(names)
    except FileNotFoundError as error:
        raise ModelFileError(
            f"There is no file '{path.name}'.", "Check its name and folder."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"'{path.name}' is not the index of a model in parts.", "Choose one of the parts."
        ) from error
    return tuple(path.with_name(name) for name in sorted(names))

"""The files of a model folder: where they are, what they hold, how they are called in messages.

Messages name a file by its last three parts ("my-model/vae/config.json") and a folder by its last two,
never by the whole path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....utils.errors import ModelFileError
from ....utils.weights.safetensors_header import StoredTensor, read_safetensors_header
from ...errors import BadRequestError, NotFoundError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of one model, in one file or in several shards.

    Attributes:
        name: The file, or the index of the shards, as messages call it.
        files: Tensor name → the file that holds it.
        tensors: Tensor name → its type and shape.
    """

    name: str
    files: Mapping[str, Path]
    tensors: Mapping[str, StoredTensor]


def shown(path: Path, parts: int = 3) -> str:
    """Return how messages call a path: by its last parts, three for a file and two for a folder."""
    return "/".join([part for part in path.parts if part != path.anchor][-parts:])


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        NotFoundError: There is no such file.
        BadRequestError: It holds something else, or cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"There is no file '{shown(path)}'.",
            "Choose a model folder in diffusers' layout, such as REPO/text_encoder or REPO/vae, "
            "and check that its download is complete.",
        ) from error
    except OSError as error:
        raise BadRequestError(f"'{shown(path)}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError(
            f"'{shown(path)}' is damaged: it is not valid JSON.", "Download it again."
        ) from error
    if not isinstance(value, dict):
        raise BadRequestError(
            f"'{shown(path)}' is damaged: it is not a JSON object.", "Download it again."
        )
    return value


def open_checkpoint(folder: Path, file_name: str) -> Checkpoint:
    """Read the headers of a model's weights: `file_name`, or the shards that its index lists.

    Raises:
        NotFoundError: The file, or a shard, is missing.
        BadRequestError: A file is damaged, or two shards hold the same tensor.
    """
    single, index = folder / file_name, folder / f"{file_name}.index.json"
    if single.is_file() or not index.is_file():
        return _merge(shown(single), [single])
    return _merge(shown(index), [folder / name for name in _shard_names(index)])


def _shard_names(index: Path) -> list[str]:
    table = read_json(index).get("weight_map")
    names = list(table.values()) if isinstance(table, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise BadRequestError(
            f"'{shown(index)}' is damaged: it does not list the files beside it that hold the weights.",
            "Download it again.",
        )
    return sorted(set(names))


def _merge(name: str, paths: list[Path]) -> Checkpoint:
    files: dict[str, Path] = {}
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        found = _read_header(path)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise BadRequestError(
                f"'{name}' is damaged: '{twice[0]}' is in two of its files.", "Download it again."
            )
        tensors.update(found)
        files.update(dict.fromkeys(found, path))
    return Checkpoint(name, files, tensors)


def _read_header(path: Path) -> Mapping[str, StoredTensor]:
    if not path.is_file():
        raise NotFoundError(
            f"There is no file '{shown(path)}'.", "Check that the model's download is complete."
        )
    try:
        return read_safetensors_header(path).tensors
    except ModelFileError as error:
        message = error.message.replace(f"'{path.name}'", f"'{shown(path)}'", 1)
        raise BadRequestError(message, error.hint) from error

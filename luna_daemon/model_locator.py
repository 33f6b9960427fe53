"""From what a client calls a model to the files it means, and to the key that identifies its weights.

A client names a file or folder below the configured roots; what resolves to any other place does not
exist for it. The key covers the state of every file of the model (resolved path, size, modification
time, the header of weight files), the precision and the engine: a name alone never identifies weights.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..utils.errors import ModelFileError
from ..utils.weights.gguf_header import GgufHeader, read_gguf_header
from ..utils.weights.safetensors_header import (
    ITEM_BITS,
    SafetensorsHeader,
    read_safetensors_header,
)
from .errors import BadRequestError, DaemonError, NotFoundError
from .protocol.worker_messages import ActivationUnits, ModelSpec
from .scheduler.activation import units_of

# Raise it when a loader starts to read the same files differently.
LOADER_VERSION = 1
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
GGUF = ".gguf"
_HINT = "Check the name, or add the folder to model_roots."


class ModelLocator:
    """Finds models below the roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def spec(self, role: str, name: str, *, engine: str, precision: str) -> ModelSpec:
        """Return what to load for a role.

        Args:
            role: clip_l, clip_g, vae, …
            name: A path, absolute or relative to a root.
            engine: Which engine will load it; part of the key.
            precision: fp32, fp16, bf16 or file.

        Raises:
            NotFoundError: Nothing of that name lies below the roots.
            BadRequestError: It holds no readable weights.
        """
        path = self.resolve(role, name)
        files = self._files_of(role, path)
        headers = {
            real: _read_safetensors(role, listed)
            for listed, real in files.items()
            if listed.suffix == ".safetensors"
        }
        if not headers:
            raise BadRequestError(
                f"The model for '{role}', '{path.name}', has no .safetensors file.",
                "Other formats can run code when they are opened and are not accepted; convert it.",
            )
        return ModelSpec(
            key=files_key(
                f"{role}\0{engine}/{LOADER_VERSION}/{precision}", list(files.values()), headers
            ),
            role=role,
            path=str(path),
            precision=precision,
            nbytes=sum(_size_in_memory(header, precision) for header in headers.values()),
            activation=_activation(role, headers.values(), precision),
        )

    def is_unchanged(self, spec: ModelSpec, *, engine: str) -> bool:
        """Are the files that a key was made of still the same?"""
        try:
            now = self.spec(spec.role, spec.path, engine=engine, precision=spec.precision)
        except (DaemonError, OSError):  # gone, or no longer readable
            return False
        return now.key == spec.key

    def resolve(self, role: str, name: str) -> Path:
        """Return where a model lies that a client names.

        Raises:
            NotFoundError: Nothing of that name lies below the roots.
        """
        if not self.roots:
            raise NotFoundError(
                "The daemon knows no model folder.",
                "Start it with --model-roots FOLDER, or --comfyui-path.",
            )
        for root in self.roots:
            try:
                path = Path(os.path.realpath(root / name))
            except ValueError:  # no file can have such a name: it has a NUL or half a character
                break
            # Not path.exists(), which raises when a name is too long or a folder may not be read.
            if self._is_inside(path) and os.path.exists(path):
                return path
        raise NotFoundError(
            f"There is no model '{_shown(name)}' for '{role}' below the model folders.", _HINT
        )

    def _is_inside(self, path: Path) -> bool:
        return any(path != root and path.is_relative_to(root) for root in self.roots)

    def _files_of(self, role: str, path: Path) -> dict[Path, Path]:
        """Return the files that decide about a model: as the folder lists them → where they lie.

        They are the file itself, or a component folder's own files and those of the tokenizer beside it
        (text_encoder_2 ↔ tokenizer_2).
        """
        if path.is_file():
            return {path: path}
        folders = [path]
        if path.name.startswith("text_encoder"):
            folders.append(path.parent / path.name.replace("text_encoder", "tokenizer", 1))
        found = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
        files = {file: Path(os.path.realpath(file)) for file in found if file.is_file()}
        for listed, real in files.items():
            if not self._is_inside(real):
                raise NotFoundError(
                    f"The model for '{role}' has a file '{listed.name}' that is a link to a place outside the model folders.",
                    "Add the folder it leads to to model_roots.",
                )
        return files


def read_header(role: str, file: Path) -> SafetensorsHeader | GgufHeader:
    """Return what a weight file says of itself.

    Raises:
        BadRequestError: It is damaged, or no such file.
    """
    with _told_to_the_client(role):
        return (
            read_gguf_header(file) if file.suffix.lower() == GGUF else read_safetensors_header(file)
        )


def _read_safetensors(role: str, file: Path) -> SafetensorsHeader:
    with _told_to_the_client(role):
        return read_safetensors_header(file)


@contextmanager
def _told_to_the_client(role: str) -> Iterator[None]:
    try:
        yield
    except ModelFileError as error:
        raise BadRequestError(
            f"The model for '{role}' cannot be used. {error.message}", error.hint
        ) from error


def files_key(
    loader: str, files: Sequence[Path], headers: Mapping[Path, SafetensorsHeader | GgufHeader]
) -> str:
    """Return the key of weights: who loads them and how, and the state of every file."""
    digest = hashlib.sha256(f"{loader}\0".encode())
    for file in files:
        state = file.stat()
        header = headers[file].digest if file in headers else ""
        digest.update(os.fsencode(file))  # a file's name need not be text
        digest.update(f"\0{state.st_size}\0{state.st_mtime_ns}\0{header}\0".encode())
    return digest.hexdigest()


def _size_in_memory(header: SafetensorsHeader, precision: str) -> int:
    if precision not in _BYTES:
        return header.total_bytes
    return sum(math.prod(tensor.shape) for tensor in header.tensors.values()) * _BYTES[precision]


def _activation(
    role: str, headers: Collection[SafetensorsHeader], precision: str
) -> ActivationUnits:
    stored = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    widest = max((ITEM_BITS[tensor.dtype] // 8 for tensor in stored.values()), default=0)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    return units_of(role, shapes, _BYTES.get(precision, widest))


def _shown(name: str) -> str:
    return name if len(name) <= 120 else name[:117] + "…"

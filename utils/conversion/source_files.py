"""The files of a source and the tensors in them: safetensors, whole or in parts, and GGUF."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError
from ..weights.gguf_header import read_gguf_header
from ..weights.gguf_names import named_shapes
from ..weights.gguf_shapes import model_shapes
from ..weights.model_parts import files_of, is_index
from ..weights.safetensors_header import read_safetensors_header
from ..weights.sampling_marks import marks_in
from .model_tensors import ModelTensor, Piece
from .refusal import ConversionRefusedError, Reason

SAFETENSORS, GGUF = (".safetensors", ".sft"), ".gguf"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, whatever it is called: another size, time or header is another file.

    Attributes:
        size: Bytes; of all parts together.
        mtime_ns: When it was changed last, in nanoseconds since the epoch.
        digest: SHA-256 of its header, in hex; of those of its parts.
    """

    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What is stored.

    Attributes:
        files: The file, or its parts.
        identity: Which they are.
        tensors: By their names in the file. Of a GGUF file that is quantised, types are ggml's.
        metadata: The free texts that it carries.
        is_gguf: Is it a GGUF file?
    """

    files: tuple[Path, ...]
    identity: Identity
    tensors: Mapping[str, ModelTensor]
    metadata: Mapping[str, str]
    is_gguf: bool = False


def read_source(path: Path) -> SourceFiles:
    """Read the headers of a source: a file, one of the parts of a model, or the index of its parts.

    Raises:
        ConversionRefusedError: Files with this ending are not converted.
        ModelFileError: It is missing or damaged, or a part of it is.
    """
    if path.suffix.lower() == GGUF:
        return _gguf(path)
    if is_safetensors(path):
        return _safetensors(files_of(path))
    hint = "Choose a safetensors file, or a GGUF file in F16, BF16 or F32."
    if path.suffix.lower() in _PICKLES:
        hint = (
            "Load it in ComfyUI with Load Checkpoint, write it with Save Checkpoint, which makes a safetensors "
            "file, and convert that; or download the model as safetensors."
        )
    raise ConversionRefusedError(
        Reason.FORMAT,
        f"'{path.name}' cannot be converted: only safetensors and GGUF files are.",
        hint,
    )


def is_safetensors(path: Path) -> bool:
    """Is this the name of a safetensors file, or of the index of a model in parts?"""
    return path.suffix.lower() in SAFETENSORS or is_index(path)


def located(path: Path) -> Path:
    """Return a whole path without links in its folders; of a model in parts that of the first.

    The file's own name stays, where it is a link too: caches of downloads link names to files that are called by
    their digests.

    Raises:
        ModelFileError: It is the index of a model in parts, and cannot be read.
    """
    return path.parent.resolve() / files_of(path)[0].name


def _safetensors(files: tuple[Path, ...]) -> SourceFiles:
    absent = [file.name for file in files if not file.exists()]
    if absent and len(files) > 1:
        raise ModelFileError(
            f"The model is in {len(files)} parts, and {', '.join(map(repr, absent))} of them is not there.",
            "Download all parts into one folder.",
        )
    tensors: dict[str, ModelTensor] = {}
    metadata: dict[str, str] = {}
    digests, size, mtime_ns = [], 0, 0
    for number, file in enumerate(files):
        header, state = read_safetensors_header(file), file.stat()
        begin = state.st_size - header.total_bytes
        for name, one in header.tensors.items():
            if name in tensors:
                raise ModelFileError(
                    f"'{name}' is in two parts of the model, the second of them '{file.name}'.",
                    "Download all parts anew.",
                )
            piece = Piece(begin + one.begin, one.end - one.begin, number)
            tensors[name] = ModelTensor(one.dtype, one.shape, (piece,))
        metadata |= header.metadata
        digests.append(header.digest)
        size, mtime_ns = size + state.st_size, max(mtime_ns, state.st_mtime_ns)
    whole = digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return SourceFiles(files, Identity(size, mtime_ns, whole), tensors, metadata)


def _gguf(path: Path) -> SourceFiles:
    header, state = read_gguf_header(path), path.stat()
    named_shapes(path.name, header)  # refuses what is no model of its own, with the reason
    shapes = model_shapes(header)
    tensors = {
        name: ModelTensor(
            one.type, shapes[name], (Piece(header.data_begin + one.begin, one.end - one.begin),)
        )
        for name, one in header.tensors.items()
    }
    tensors |= {mark: ModelTensor("F32", (0,), ()) for mark in marks_in(header.metadata)}
    texts = {
        key: value
        for key, value in header.metadata.items()
        if isinstance(value, str) and "." not in key  # the others are about the file itself
    }
    identity = Identity(state.st_size, state.st_mtime_ns, header.digest)
    return SourceFiles((path,), identity, tensors, texts, is_gguf=True)

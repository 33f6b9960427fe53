"""What a weight file is, from its header: kind, layout, types, sizes and texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from ..errors import InputError
from ..weights.detection import describe_shapes
from ..weights.diffusion_models import model_prefix
from ..weights.families import describe_model
from ..weights.gguf_header import read_gguf_header
from .sidecars import Sidecar, read_sidecar
from .source_files import GGUF, is_safetensors, read_source


@dataclass(slots=True)
class TypeUse:
    """What there is of one element type.

    Attributes:
        tensors: How many tensors have it.
        elements: Their elements.
        size: Their bytes.
    """

    tensors: int = 0
    elements: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a weight file is.

    Attributes:
        path: The file.
        size: Its bytes; of a model in parts those of all.
        contents: What it holds, in words.
        architecture: What GGUF files call its architecture; empty where they have no name for it.
        layout: "diffusers" where it is in that layout, else empty.
        prefix: What the names of the diffusion model's tensors begin with.
        types: Element type → what there is of it, the largest first.
        largest: Names and bytes of the largest tensors.
        texts: What the file says of itself.
        sidecar: How it was made, if it was made by this package.
    """

    path: Path
    size: int
    contents: str
    architecture: str
    layout: str
    prefix: str
    types: Mapping[str, TypeUse]
    largest: tuple[tuple[str, int], ...]
    texts: Mapping[str, str]
    sidecar: Sidecar | None = field(default=None)


def inspect_file(path: Path, largest: int = 3) -> FileReport:
    """Return what a file is.

    Args:
        path: A safetensors or GGUF file; of a model in parts any part, or their index.
        largest: How many of its largest tensors are named.

    Raises:
        InputError: It has another ending.
        ModelFileError: It is missing or damaged.
    """
    architecture = ""
    tensors: list[_Tensor]
    texts: dict[str, str]
    if is_safetensors(path):
        safe = read_source(path)
        size = safe.identity.size
        tensors = [
            (n, t.dtype, t.shape, sum(piece.size for piece in t.pieces))
            for n, t in safe.tensors.items()
        ]
        texts = dict(safe.metadata)
    elif path.suffix.lower() == GGUF:
        header, size = read_gguf_header(path), path.stat().st_size
        tensors = [(n, t.type, t.shape, t.end - t.begin) for n, t in header.tensors.items()]
        # Shapes are in the tensors already, and lists are the words of a tokenizer.
        texts = {
            key: str(value)
            for key, value in header.metadata.items()
            if not isinstance(value, tuple)
        }
        architecture = header.architecture
    else:
        raise InputError(
            f"'{path.name}' is neither a safetensors nor a GGUF file, by its ending.",
            "Only these two can be inspected.",
        )
    shapes = {name: shape for name, _, shape, _ in tensors}
    prefix = model_prefix(shapes)
    model = describe_model({name.removeprefix(prefix): shape for name, shape in shapes.items()})
    by_size = sorted(tensors, key=lambda tensor: -tensor[3])
    return FileReport(
        path,
        size,
        str(describe_shapes(shapes)),
        architecture or (model.architecture if model else ""),
        "diffusers" if model and model.diffusers else "",
        prefix,
        _types(tensors),
        tuple((name, size) for name, _, _, size in by_size[:largest]),
        texts,
        read_sidecar(path),
    )


_Tensor = tuple[str, str, "tuple[int, ...]", int]  # name, type, shape, bytes


def _types(tensors: Iterable[_Tensor]) -> dict[str, TypeUse]:
    types: defaultdict[str, TypeUse] = defaultdict(TypeUse)
    for _, kind, shape, size in tensors:
        use = types[kind]
        use.tensors += 1
        use.elements += prod(shape)
        use.size += size
    return dict(sorted(types.items(), key=lambda item: -item[1].size))

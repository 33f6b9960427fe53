"""What is written for a source and a target: each tensor, where it comes from, and how it is encoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from ..weights.families import describe_model
from ..weights.safetensors_header import ITEM_BITS, StoredTensor
from . import encodings
from .architectures import Architecture, find_architecture
from .encodings import Encoding
from .layouts import Layout, Slot, safetensors_layout
from .refusal import ConversionRefusedError, Reason
from .source import Source
from .targets import SAFETENSORS, Target

# Raise it when the same source becomes other bytes: files of older recipes are made again.
RECIPE_VERSION = 1
_QUANTISATION = "_quantization_metadata"  # where ComfyUI looks for the formats of layers
_FLOATS = ("F16", "BF16", "F32", "F64")
# Matrices with fewer rows or columns gain nothing, and hardware wants multiples of 16.
_SMALLEST_SIDE = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the source that are part of a tensor: whole rows of it, where there are several."""

    begin: int  # from the start of the file
    size: int


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the file that is to be written.

    Attributes:
        name: Its name there.
        type: Element type of the source.
        count: Its elements.
        pieces: Where they come from, one after the other.
        encoding: How they are stored.
        slots: Where they are stored; behind the tensor's own slot that of its scale.
    """

    name: str
    type: str
    count: int
    pieces: tuple[Piece, ...]
    encoding: Encoding
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A file that is to be written.

    Attributes:
        tensors: What is in it, in the order in which it is best written.
        layout: Where each of them lies.
    """

    tensors: tuple[PlannedTensor, ...]
    layout: Layout


def make_plan(source: Source, target: Target) -> Plan:
    """Return what has to be written.

    Raises:
        ConversionRefusedError: It would be the file that is there, or it cannot be exact.
    """
    model = describe_model({name: tensor.shape for name, tensor in source.tensors.items()})
    architecture = find_architecture(model.architecture if model else "")
    if target.container != SAFETENSORS:
        raise ConversionRefusedError(Reason.ABSENT, f"'{target.label}' cannot be written yet.")
    return _safetensors_plan(source, target, architecture)


Choose = Callable[[Architecture, str, StoredTensor], Encoding]


def _safetensors_plan(source: Source, target: Target, architecture: Architecture) -> Plan:
    choose = _CHOICES[target.name]
    tensors = []
    for name, stored in source.tensors.items():
        if architecture.skips(name):
            continue
        if stored.dtype not in _FLOATS:
            encoding = _copied(stored)
        else:
            encoding = choose(architecture, name, stored)
        tensors.append(_planned(source, name, stored, encoding))
    metadata = {key: text for key, text in source.metadata.items() if key != "format"}
    layers = {
        tensor.name.removesuffix(".weight"): {"format": _FORMATS[tensor.encoding.type]}
        for tensor in tensors
        if tensor.encoding.scaled
    }
    if layers:
        metadata[_QUANTISATION] = json.dumps({"format_version": "1.0", "layers": layers})
    slots = [slot for tensor in tensors for slot in tensor.slots]
    layout = safetensors_layout(slots, metadata)
    ordered = sorted(tensors, key=lambda tensor: layout.places[tensor.name])
    return Plan(tuple(ordered), layout)


_FORMATS = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def _planned(source: Source, name: str, stored: StoredTensor, encoding: Encoding) -> PlannedTensor:
    count = prod(stored.shape)
    slots = [Slot(name, encoding.type, stored.shape, count // encoding.unit * encoding.unit_bytes)]
    if encoding.scaled:
        slots.append(Slot(f"{name.removesuffix('.weight')}.weight_scale", "F32", (), 4))
    piece = Piece(source.data_begin + stored.begin, stored.end - stored.begin)
    return PlannedTensor(name, stored.dtype, count, (piece,), encoding, tuple(slots))


def _copied(stored: StoredTensor) -> Encoding:
    return encodings.copied(stored.dtype, ITEM_BITS[stored.dtype] // 8)


def _cast_unless_equal(stored: StoredTensor, dtype: str) -> Encoding:
    return _copied(stored) if stored.dtype == dtype else encodings.cast(dtype)


def _half(dtype: str) -> Choose:
    return lambda architecture, name, stored: _cast_unless_equal(stored, dtype)


def _high(architecture: Architecture, stored: StoredTensor) -> Encoding:
    """Return how a tensor that is not quantised is stored: large ones in 16 bits, small ones as they are."""
    if stored.dtype in ("F16", "BF16") or len(stored.shape) < 2:
        return _copied(stored)
    return encodings.cast("F16" if architecture.convolutional else "BF16")


def _plain(dtype: str) -> Choose:
    def choose(architecture: Architecture, name: str, stored: StoredTensor) -> Encoding:
        if len(stored.shape) < 2 or not name.endswith(".weight") or architecture.keeps(name):
            return _high(architecture, stored)
        return encodings.cast(dtype)

    return choose


def _scaled(dtype: str) -> Choose:
    def choose(architecture: Architecture, name: str, stored: StoredTensor) -> Encoding:
        if (
            len(stored.shape) != 2
            or min(stored.shape) < _SMALLEST_SIDE
            or not name.endswith(".weight")
            or architecture.keeps(name)
        ):
            return _high(architecture, stored)
        return encodings.scaled_float8(dtype)

    return choose


_CHOICES = {
    "bf16": _half("BF16"),
    "fp16": _half("F16"),
    "fp8_e4m3fn": _plain("F8_E4M3"),
    "fp8_e5m2": _plain("F8_E5M2"),
    "fp8_e4m3fn_scaled": _scaled("F8_E4M3"),
}

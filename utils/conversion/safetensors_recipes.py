"""What a safetensors file of each precision holds: which tensors are made smaller, and how the file says so."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..quantization.microscaling import FORMATS, TILE_ROWS, absence, is_offered
from ..weights.safetensors_header import ITEM_BITS
from ..weights.sampling_marks import MARKS
from . import encodings
from .architectures import Architecture, find_architecture
from .encodings import Encoding
from .layouts import Slot, safetensors_layout
from .model_tensors import ModelTensor
from .plan import FLOATS, Plan, PlannedTensor
from .refusal import ConversionRefusedError, Reason
from .source import QUANTISATION, Source

# Matrices with fewer rows or columns gain nothing, and hardware wants multiples of 16.
_SMALLEST_SIDE = 64

Choose = Callable[[Architecture, str, ModelTensor], Encoding]


def safetensors_plan(source: Source, target: str) -> Plan:
    """Return what is written for a target whose files are safetensors.

    Raises:
        ConversionRefusedError: A package that is not installed would have to make it.
    """
    if target in FORMATS and not is_offered(target):
        raise ConversionRefusedError(Reason.ABSENT, *absence(target))
    architecture = find_architecture(source.architecture)
    choose = _CHOICES[target]
    tensors = []
    for name, tensor in source.tensors.items():
        if architecture.skips(name):
            continue
        is_number = tensor.dtype in FLOATS and name not in MARKS
        encoding = choose(architecture, name, tensor) if is_number else _copied(tensor)
        tensors.append(_planned(name, tensor, encoding))
    # What the source says of quantised layers is of other models in it.
    theirs = ("format", QUANTISATION)
    metadata = {key: text for key, text in source.metadata.items() if key not in theirs}
    layers = {
        tensor.name.removesuffix(".weight"): {"format": tensor.encoding.format}
        for tensor in tensors
        if tensor.encoding.format
    }
    if layers:
        metadata[QUANTISATION] = json.dumps({"format_version": "1.0", "layers": layers})
    layout = safetensors_layout([slot for tensor in tensors for slot in tensor.slots], metadata)
    ordered = sorted(tensors, key=lambda tensor: layout.places[tensor.name])
    return Plan(tuple(ordered), layout)


def copied_plan(source: Source) -> Plan:
    """Return what is written where every tensor stays as it is."""
    tensors = [_planned(name, tensor, _copied(tensor)) for name, tensor in source.tensors.items()]
    layout = safetensors_layout([tensor.slots[0] for tensor in tensors], {})
    return Plan(tuple(sorted(tensors, key=lambda tensor: layout.places[tensor.name])), layout)


def _planned(name: str, tensor: ModelTensor, encoding: Encoding) -> PlannedTensor:
    size = tensor.count // encoding.unit * encoding.unit_bytes
    slots = [Slot(name, encoding.type, tensor.shape, size)]
    scale = f"{name.removesuffix('.weight')}.weight_scale"
    if encoding.side_bytes:  # a byte for each number or pair of numbers, and for each scale
        rows = tensor.shape[0]
        sides = tensor.count // encoding.unit * encoding.side_bytes
        slots = [
            Slot(name, encoding.type, (rows, size // rows), size),
            Slot(scale, encoding.side_type, (rows, sides // rows), sides),
        ]
    if encoding.scaled:
        slots.append(Slot(f"{scale}_2" if encoding.side_bytes else scale, "F32", (), 4))
    return PlannedTensor(name, tensor.dtype, tensor.count, tensor.pieces, encoding, tuple(slots))


def _copied(tensor: ModelTensor) -> Encoding:
    return encodings.copied(tensor.dtype, ITEM_BITS[tensor.dtype] // 8)


def _half(dtype: str) -> Choose:
    def choose(architecture: Architecture, name: str, tensor: ModelTensor) -> Encoding:
        return _copied(tensor) if tensor.dtype == dtype else encodings.cast(dtype)

    return choose


def _high(architecture: Architecture, tensor: ModelTensor) -> Encoding:
    """Return how a tensor that is not made smaller is stored: in 16 bits, or as it is where that is little."""
    if tensor.dtype in ("F16", "BF16") or len(tensor.shape) < 2:
        return _copied(tensor)
    return encodings.cast("F16" if architecture.convolutional else "BF16")


def _plain(dtype: str) -> Choose:
    def choose(architecture: Architecture, name: str, tensor: ModelTensor) -> Encoding:
        if len(tensor.shape) < 2 or not name.endswith(".weight") or architecture.keeps(name):
            return _high(architecture, tensor)
        return encodings.cast(dtype)

    return choose


def _scaled(dtype: str) -> Choose:
    def choose(architecture: Architecture, name: str, tensor: ModelTensor) -> Encoding:
        is_matrix = len(tensor.shape) == 2 and min(tensor.shape) >= _SMALLEST_SIDE
        if not is_matrix or not name.endswith(".weight") or architecture.keeps(name):
            return _high(architecture, tensor)
        return encodings.scaled_float8(dtype)

    return choose


def _microscaled(name: str) -> Choose:
    def choose(architecture: Architecture, key: str, tensor: ModelTensor) -> Encoding:
        fits = (
            len(tensor.shape) == 2
            and tensor.shape[0] % TILE_ROWS == 0
            and tensor.shape[1] % FORMATS[name].block == 0
            and min(tensor.shape) >= _SMALLEST_SIDE
        )
        if not fits or not key.endswith(".weight") or architecture.keeps(key):
            return _high(architecture, tensor)
        return encodings.microscaled(name, tensor.shape[1])

    return choose


_CHOICES = {
    "bf16": _half("BF16"),
    "fp16": _half("F16"),
    "fp8_e4m3fn": _plain("F8_E4M3"),
    "fp8_e5m2": _plain("F8_E5M2"),
    "fp8_e4m3fn_scaled": _scaled("F8_E4M3"),
    **{name: _microscaled(name) for name in FORMATS},
}

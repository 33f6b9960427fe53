"""The bytes of a GGUF file before its tensors, and where each of those lies.

A file is: "GGUF", version, numbers of tensors and of values, the values (name, type, value), the tensors
(name, dimensions from the innermost, type, place), and the tensors' bytes, each at a multiple of the alignment.

Source: the format description in ggml's repository (docs/gguf.md).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..quantization.ggml_types import ggml_type
from .layouts import Layout, Slot

_VERSION, _ALIGNMENT = 3, 32
_UINT32, _INT32, _STRING, _ARRAY = 4, 5, 8, 9

Values = dict[str, "str | int | list[int]"]


def gguf_layout(slots: Sequence[Slot], values: Values) -> Layout:
    """Lay out a GGUF file: texts, whole numbers of 32 bits without a sign, and lists of such with one."""
    head = bytearray(struct.pack("<4sIQQ", b"GGUF", _VERSION, len(slots), len(values)))
    for key, value in values.items():
        head += _text(key) + _value(value)
    begins, end = [], 0
    for slot in slots:
        begins.append(end)
        head += _text(slot.name)
        head += struct.pack(f"<I{len(slot.shape)}Q", len(slot.shape), *reversed(slot.shape))
        head += struct.pack("<IQ", ggml_type(slot.type).id, end)
        end += slot.size + -slot.size % _ALIGNMENT
    head += bytes(-len(head) % _ALIGNMENT)
    places = {slot.name: len(head) + at for slot, at in zip(slots, begins, strict=True)}
    return Layout(bytes(head), places, len(head) + end)


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: str | int | list[int]) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)

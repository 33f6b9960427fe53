"""Where each tensor lies in a file that is to be written, and the bytes before the first of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..weights.safetensors_header import ITEM_BITS

_HEADER_STEP = 8  # the reference writer fills headers up to a multiple of it


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a file.

    Attributes:
        name: Its name.
        type: Its element type, as the container calls it.
        shape: Its shape, as the container stores it.
        size: Its bytes.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A file before its tensors are there.

    Attributes:
        head: The bytes before the first tensor.
        places: Name of a tensor → where its bytes begin in the file.
        total: Bytes of the whole file.
    """

    head: bytes
    places: Mapping[str, int]
    total: int


def safetensors_layout(slots: Sequence[Slot], metadata: Mapping[str, str]) -> Layout:
    """Lay out a safetensors file: types with large elements first, so that every tensor is aligned."""
    ordered = sorted(slots, key=lambda slot: -ITEM_BITS[slot.type])
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    places, end = {}, 0
    for slot in ordered:
        places[slot.name] = end
        header[slot.name] = {
            "dtype": slot.type,
            "shape": slot.shape,
            "data_offsets": (end, end + slot.size),
        }
        end += slot.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _HEADER_STEP)
    head = len(text).to_bytes(8, "little") + text
    return Layout(head, {name: len(head) + at for name, at in places.items()}, len(head) + end)

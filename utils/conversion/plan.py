"""What is written for a source and a target: each tensor, where it comes from, and how it is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from .encodings import Encoding
from .layouts import Layout, Slot
from .model_tensors import Piece

# Raise it when the same source becomes other bytes: files of older recipes are made again.
RECIPE_VERSION = 1
FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the file that is to be written.

    Attributes:
        name: Its name there.
        type: Element type of the source.
        count: Its elements.
        pieces: Where they come from, one after the other.
        encoding: How they are stored.
        slots: Where they are stored; behind the tensor's own slot those of its scales.
    """

    name: str
    type: str
    count: int
    pieces: tuple[Piece, ...]
    encoding: Encoding
    slots: tuple[Slot, ...]

    @property
    def source_bytes(self) -> int:
        """The bytes of the source that it is made of."""
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Plan:
    """A file that is to be written.

    Attributes:
        tensors: What is in it, in the order in which it is best written.
        layout: Where each of them lies.
    """

    tensors: tuple[PlannedTensor, ...]
    layout: Layout

"""The tensors of a diffusion model, as bytes of the file that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a source: whole rows of a tensor, or all of it."""

    begin: int  # from the start of the file
    size: int
    file: int = 0  # which of the source's files


@dataclass(frozen=True, slots=True)
class ModelTensor:
    """A tensor of the diffusion model.

    Attributes:
        dtype: Its element type, as safetensors calls it; of a quantised GGUF file ggml's.
        shape: Its shape.
        pieces: Where its bytes are, one after the other.
    """

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """Its elements."""
        return prod(self.shape)

"""How far converted tensors are from their source.

Of each chunk a sample is decoded again and compared, its first rows: a part of a tensor that says of the whole
what there is to know, for a small part of the work.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .encodings import Encoding, Scratch

# Elements of a chunk that are compared; whole units.
SAMPLE_ELEMENTS = 1 << 16


class Sums(NamedTuple):
    """Sums over compared elements x of the source and y of the result."""

    errors: float = 0.0  # of (y - x)²
    sources: float = 0.0  # of x²
    results: float = 0.0  # of y²
    products: float = 0.0  # of x · y

    def plus(self, other: Sums) -> Sums:
        """Return the sums over both."""
        return Sums(*(one + two for one, two in zip(self, other, strict=True)))

    def quality(self) -> dict[str, float]:
        """Return the error's root mean square in parts of the source's, and the cosine between both."""
        if not self.sources:
            return {"rmse": math.sqrt(self.errors), "cosine": 1.0}
        both = math.sqrt(self.sources * self.results)
        cosine = min(self.products / both, 1.0) if both else 0.0
        return {"rmse": math.sqrt(self.errors / self.sources), "cosine": cosine}


def compare(
    values: torch.Tensor, data: torch.Tensor, scale: float, encoding: Encoding, scratch: Scratch
) -> Sums:
    """Compare the first elements of a chunk with what became of them.

    Args:
        values: The chunk's elements [n].
        data: Its bytes.
        scale: The tensor's scale.
        encoding: How the one became the other.
        scratch: Buffers of this thread.
    """
    units = min(max(SAMPLE_ELEMENTS // encoding.unit, 1), len(values) // encoding.unit)
    count = units * encoding.unit
    source = scratch.take("source", count, torch.float32).copy_(values[:count])
    result = encoding.decode(data[: units * encoding.unit_bytes], scale)
    sums = torch.dot(source, source), torch.dot(result, result), torch.dot(source, result)
    result.sub_(source)
    return Sums(float(torch.dot(result, result)), *map(float, sums))

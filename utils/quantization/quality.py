"""How far quantised weights are from what they were made of. Added up piece by piece, in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Quality:
    """Sums over the pieces of a tensor that were compared so far; add two to join them.

    Attributes:
        error: Of the squared differences.
        source: Of the squared numbers before.
        result: Of the squared numbers after.
        product: Of before times after.
    """

    error: float = 0.0
    source: float = 0.0
    result: float = 0.0
    product: float = 0.0

    def __add__(self, other: Quality) -> Quality:
        return Quality(
            self.error + other.error,
            self.source + other.source,
            self.result + other.result,
            self.product + other.product,
        )

    @property
    def relative_rmse(self) -> float:
        """The root mean square error by the root mean square of the source; infinite for a zero source."""
        if not self.error:
            return 0.0
        return math.sqrt(self.error / self.source) if self.source else math.inf

    @property
    def cosine(self) -> float:
        """The cosine between source and result as vectors, from -1 to 1; 1 when both are zero."""
        if not self.source and not self.result:
            return 1.0
        lengths = math.sqrt(self.source) * math.sqrt(self.result)
        return max(-1.0, min(1.0, self.product / lengths)) if lengths else 0.0


def compare(source: Tensor, result: Tensor) -> Quality:
    """Compare a piece of a tensor with what became of it.

    Args:
        source: Numbers of any float dtype and shape.
        result: As many, in the same order.
    """
    before, after = source.reshape(-1).float(), result.reshape(-1).float()
    sums = _sums(before, after)
    if not all(map(math.isfinite, sums)):  # squares of large numbers do not fit fp32
        sums = _sums(before.double(), after.double())
    return Quality(*sums)


def _sums(before: Tensor, after: Tensor) -> tuple[float, float, float, float]:
    difference = after - before
    pairs = ((difference, difference), (before, before), (after, after), (before, after))
    error, source, result, product = torch.stack([torch.dot(*pair) for pair in pairs]).tolist()
    return error, source, result, product

"""Texts in batches, where a batch gives bit for bit what the texts give one at a time.

Whether it does depends on the machine's matrix routines, so it is never assumed: the first batch of each
size is computed both ways for each set of encoders. If one bit differs, that size is never used again
for them; the results handed out are then, and at that first time, those of the single texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from ....utils.log import get_logger
from ..oom import attempt

log = get_logger("engine")
SIZES = (8, 4, 2)  # few, since each has to be proved

T = TypeVar("T")
Result = tuple[torch.Tensor, ...]  # of one text, each [1, …]


class BatchProofs:
    """What is known of batches: (who, size) → equal to single texts or not."""

    def __init__(self) -> None:
        self._equal: dict[tuple[tuple[str, ...], int], bool] = {}

    def run(
        self, who: tuple[str, ...], texts: Sequence[T], run: Callable[[Sequence[T]], list[Result]]
    ) -> Iterator[list[Result]]:
        """Compute all texts, in the largest batches that are not known to differ.

        Args:
            who: Model keys of the encoders.
            texts: What `run` takes, one for each text.
            run: Computes some texts in one batch. Raises what torch raises without memory.

        Yields:
            The results of one batch after the other, one for each text. Where memory runs out in a batch,
            its texts are computed one by one.
        """
        done = 0
        while done < len(texts):
            left = texts[done:]
            size = next((s for s in SIZES if s <= len(left) and self._equal.get((who, s), True)), 1)
            yield self._run_batch(who, left[:size], run)
            done += size

    def forget(self, model: str) -> None:
        """Drop what is known of encoders that this model is one of."""
        self._equal = {key: equal for key, equal in self._equal.items() if model not in key[0]}

    def _run_batch(
        self, who: tuple[str, ...], texts: Sequence[T], run: Callable[[Sequence[T]], list[Result]]
    ) -> list[Result]:
        size = len(texts)
        if size == 1:
            return run(texts)
        together = attempt(lambda: run(texts))
        if together is not None and self._equal.get((who, size)):
            return together
        alone = [result for text in texts for result in run([text])]
        if together is not None:
            equal = all(_same(a, b) for a, b in zip(together, alone, strict=True))
            self._equal[who, size] = equal
            if not equal:
                log.info("batches of %d texts differ from single ones here and are not used", size)
        return alone


def _same(one: Result, other: Result) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

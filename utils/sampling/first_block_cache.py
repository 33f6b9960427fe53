"""First-block cache: a step whose first block says the same as before is not computed further.

The first block of a diffusion model runs in every call. What it adds to its input, its residual, is compared
with that of the last call that ran in full. Where the two differ by less than a threshold, what all other
blocks added in that call is added again, instead of running them.

Calls are kept apart by what they compute: another shape or another set of conditions is another series.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class CacheSettings:
    """When a call may be cut short.

    Attributes:
        threshold: The largest relative difference of two residuals; 0: never.
        start: From this part of the sampling on, 0 to 1.
        end: Up to this part.
        max_hits: How many calls in a row may be cut short; -1: any number, 0: none.
    """

    threshold: float
    start: float = 0.0
    end: float = 1.0
    max_hits: int = -1

    @property
    def can_work(self) -> bool:
        """Can any call be cut short at all?"""
        return self.threshold > 0 and self.max_hits != 0 and self.start < self.end


@dataclass
class _Series:
    """Calls of one kind, from step to step.

    Attributes:
        noise: Noise level of the last one; it falls while a run lasts.
        residual: What the first block added in the last full call.
        rest: What the other blocks added in it.
        hits: Calls that were cut short since then.
    """

    noise: float
    residual: torch.Tensor | None = None
    rest: torch.Tensor | None = None
    hits: int = 0


class FirstBlockCache:
    """What is known of the calls of one run. Not thread-safe, as ComfyUI samples in one thread."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self._series: dict[Hashable, _Series] = {}
        self.hits = 0
        self.full = 0

    def reset(self) -> None:
        """Forget everything: a new run begins, or one is over."""
        self._series.clear()

    def may_skip(self, kind: Hashable, noise: float, residual: torch.Tensor) -> bool:
        """Tell whether a call may be cut short, and count it.

        Args:
            kind: What tells calls apart that compute different things.
            noise: Noise level of this call.
            residual: What the first block added.
        """
        series = self._series.get(kind)
        if series is None or noise > series.noise:  # noise that grows: another run has begun
            series = self._series[kind] = _Series(noise)
        series.noise = noise
        if not self._is_close(series, residual):
            series.residual, series.rest, series.hits = residual, None, 0
            self.full += 1
            return False
        series.hits += 1
        self.hits += 1
        return True

    def keep(self, kind: Hashable, first: torch.Tensor, last: torch.Tensor) -> None:
        """Keep what the other blocks added in a full call.

        Args:
            kind: As in `may_skip`.
            first: What the first block gave.
            last: What the last block gave.
        """
        if first.shape == last.shape:
            self._series[kind].rest = last - first

    def skipped(self, kind: Hashable, first: torch.Tensor) -> torch.Tensor:
        """Return what the last block would give, of a call that may be cut short."""
        rest = self._series[kind].rest
        assert rest is not None
        return first + rest

    def _is_close(self, series: _Series, residual: torch.Tensor) -> bool:
        before = series.residual
        if before is None or series.rest is None or before.shape != residual.shape:
            return False
        if 0 <= self.settings.max_hits <= series.hits:
            return False
        size = before.abs().mean(dtype=torch.float32)
        difference = (residual - before).abs().mean(dtype=torch.float32)
        return bool(difference < self.settings.threshold * size)

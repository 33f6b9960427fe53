"""Conditioning that was computed before, bounded by bytes; the least recently used goes first.

Keys are made of token ids, not of texts, so that texts which a tokenizer reads alike share an entry.
Knows nothing of text encoders.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from .engine import CacheCounts


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Everything that decides about the values of an entry.

    Attributes:
        models: Model keys of the encoders, in the order in which their outputs are joined.
        tokens: Token ids, and weights where there are any, per encoder.
        options: Model family, clip skip, and whatever else the caller's code depends on.
        patches: The patch set, by content; empty for the plain weights.
    """

    models: tuple[str, ...]
    tokens: tuple[Hashable, ...]
    options: tuple[Hashable, ...] = ()
    patches: tuple[Hashable, ...] = ()


class ConditioningCache:
    """A map of `CacheKey` to tuples of CPU tensors.

    Threads: every method may be called from any thread.
    Invariant: no tensor is shared with a caller; it copies on the way in and on the way out.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[CacheKey, tuple[torch.Tensor, ...]] = OrderedDict()
        self._nbytes = 0
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()

    def get(self, key: CacheKey) -> tuple[torch.Tensor, ...] | None:
        """Return copies of the entry's tensors, or None. Counts a hit or a miss."""
        with self._lock:
            tensors = self._entries.get(key)
            if tensors is None:
                self._misses += 1
                return None
            self._hits += 1
            self._entries.move_to_end(key)
        return _copies(tensors)

    def put(self, key: CacheKey, tensors: tuple[torch.Tensor, ...]) -> None:
        """Keep copies of the tensors; an entry larger than the whole cache is not kept."""
        nbytes = _size(tensors)
        if nbytes > self._max_bytes:
            return
        kept = _copies(tensors)
        with self._lock:
            self._drop(key)
            self._entries[key] = kept
            self._nbytes += nbytes
            while self._nbytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def forget(self, model: str) -> None:
        """Drop every entry that the model with this key had a part in."""
        with self._lock:
            for key in [key for key in self._entries if model in key.models]:
                self._drop(key)

    def counts(self) -> CacheCounts:
        """Return how full the cache is, and how often it was asked."""
        with self._lock:
            return CacheCounts(len(self._entries), self._nbytes, self._hits, self._misses)

    def _drop(self, key: CacheKey) -> None:
        self._nbytes -= _size(self._entries.pop(key, ()))


def _copies(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.detach().to("cpu", copy=True) for tensor in tensors)


def _size(tensors: tuple[torch.Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in tensors)

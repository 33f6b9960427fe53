"""Results of text encoders that were computed before, with their structure.

What a text encoder's method returns is a tree with tensors. The cache keeps tensors only, so the tree's
text is kept as one more tensor of bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec
import torch

from ...protocol.work import CallModel
from ...transport.digests import tensor_digest
from ...transport.trees import dump_tree
from ..conditioning_cache import CacheKey, ConditioningCache

CACHED_METHODS = ("encode_token_weights", "encode")


class CachedResults:
    """The conditioning cache, for trees."""

    def __init__(self, cache: ConditioningCache) -> None:
        self.cache = cache

    def key(
        self,
        work: CallModel,
        models: Sequence[str],
        tensors: Sequence[torch.Tensor],
        settings: Mapping[str, str],
    ) -> CacheKey | None:
        """Return what decides about a call's result; None when results of it are not kept.

        Args:
            work: The call.
            models: Keys of all models that it uses, the called one first.
            tensors: Those that its arguments are made of.
            settings: Those of torch that are other ones than the worker's own.
        """
        if work.kind != "clip" or work.method not in CACHED_METHODS:
            return None
        named: tuple[Hashable, ...] = tuple(tensor_digest(tensor) for tensor in tensors)
        return CacheKey(
            models=tuple(models),
            tokens=(bytes(work.arguments), named),
            options=(work.module, work.method, bytes(work.state), *sorted(settings.items())),
            patches=(work.recipe.digest,) if work.recipe is not None else (),
        )

    def get(self, key: CacheKey) -> tuple[msgspec.Raw, tuple[torch.Tensor, ...]] | None:
        """Return a result: its tree and its tensors."""
        found = self.cache.get(key)
        if found is None:
            return None
        return msgspec.Raw(found[0].numpy().tobytes()), found[1:]

    def put(self, key: CacheKey, raw: msgspec.Raw, tensors: Sequence[torch.Tensor]) -> None:
        """Keep a result."""
        text = torch.frombuffer(bytearray(bytes(raw)), dtype=torch.uint8)
        self.cache.put(key, (text, *tensors))


def dump_result(value: Any) -> tuple[msgspec.Raw, tuple[torch.Tensor, ...]]:
    """Return a result's tree, and its tensors on the CPU, each with its order in memory.

    Raises:
        BadRequestError: It is of a kind that cannot be sent.
    """
    raw, tensors = dump_tree(value)
    return raw, tuple(tensor.detach().cpu() for tensor in tensors)

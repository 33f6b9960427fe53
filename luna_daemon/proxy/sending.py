"""Sends a call with its patch set: by name where the daemon has it, written out where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import torch

from ..errors import InternalError
from ..protocol.work import CallModel, FetchWeights, Needed
from .models import UPLOAD_BYTES, UPLOAD_TENSORS, DaemonModels
from .patch_sets import PatchSet

W = TypeVar("W", CallModel, FetchWeights)


def send(
    models: DaemonModels, work: W, tensors: Sequence[torch.Tensor], patch_set: PatchSet | None
) -> tuple[Any, list[torch.Tensor]]:
    """Return the result of a call and its tensors, after uploading what the daemon lacks for it."""
    if patch_set is None:
        return models.call(work, tensors)
    recipe = patch_set.named() if models.knows(patch_set.digest) else patch_set.told({})
    uploads: list[torch.Tensor] = []
    # Each answer asks for less, unless the daemon's memory for patches is smaller than this set.
    for _ in range(8 + len(patch_set.blobs)):
        told = msgspec.structs.replace(work, recipe=recipe)
        result, received = models.call(told, [*tensors, *uploads])
        if not isinstance(result, Needed) or result.random:
            models.remember(patch_set.digest)
            return result, received
        wanted = _portion(patch_set, result.blobs)
        uploads = [patch_set.blobs[digest] for digest in wanted]
        numbers = range(len(tensors), len(tensors) + len(wanted))
        recipe = patch_set.told(dict(zip(wanted, numbers, strict=True)))
    raise InternalError(
        "The daemon asked again and again for parts of a patch set that were sent to it.",
        "Raise its memory for LoRAs (setting patch_cache_mb), or use fewer LoRAs at once.",
    )


def _portion(patch_set: PatchSet, digests: Iterable[str]) -> list[str]:
    """Return those of the digests whose tensors fit into one message."""
    portion: list[str] = []
    room = UPLOAD_BYTES
    for digest in digests:
        blob = patch_set.blobs.get(digest)
        if blob is None:
            raise InternalError("The daemon asked for a tensor that is no part of the patch set.")
        room -= blob.nbytes
        if portion and (room < 0 or len(portion) == UPLOAD_TENSORS):
            break
        portion.append(digest)
    return portion

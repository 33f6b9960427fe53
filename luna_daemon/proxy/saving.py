"""Fetches a model's weights from the daemon, for ComfyUI's save nodes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from comfy.model_patcher import ModelPatcher

from ..errors import InternalError
from ..protocol.work import FetchWeights, Weights
from .patch_sets import PatchSet
from .remote_weights import reference_of
from .skeleton import Skeleton

PIECE_BYTES = 256 * 1024**2
PIECE_NAMES = 512


def fetch_state_dict(
    skeleton: Skeleton, patcher: ModelPatcher | None = None
) -> dict[str, torch.Tensor]:
    """Return the whole state dict of a model: with a patcher's patches, else as it would be now."""
    skeleton.refuse(skeleton.edits())
    if patcher is not None:
        skeleton.loaded(patcher)
    described = skeleton.root.state_dict()
    missing = {name: t for name, t in described.items() if t.is_meta or reference_of(t)}
    fetched: dict[str, torch.Tensor] = {}
    patch_set = skeleton.patch_set()
    for names in _pieces(missing):
        fetched.update(fetch(skeleton, names, patch_set))
    return {name: fetched.get(name, tensor) for name, tensor in described.items()}


def fetch(
    skeleton: Skeleton, names: list[str], patch_set: PatchSet | None = None
) -> dict[str, torch.Tensor]:
    """Return some weights of a model."""
    work = FetchWeights(
        kind=skeleton.origin.kind,
        role=skeleton.role,
        names=tuple(names),
        also=skeleton.roles_of(patch_set),
    )
    result, tensors = skeleton.send(work, (), patch_set)
    if not isinstance(result, Weights) or len(result.tensors) != len(names):
        raise InternalError(f"The daemon did not send the weights of {skeleton.title}.")
    fetched = {name: tensors[index] for name, index in zip(names, result.tensors, strict=True)}
    return _as_held_here(skeleton.root, fetched)


def _as_held_here(
    root: torch.nn.Module, weights: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return weights in this ComfyUI's element types: a daemon may hold text encoders in fp32."""
    if not any(weight.dtype == torch.float32 for weight in weights.values()):
        return weights
    described = root.state_dict()
    return {
        name: weight.to(described[name].dtype)
        if weight.dtype == torch.float32 and described[name].is_floating_point()
        else weight
        for name, weight in weights.items()
    }


def _pieces(weights: dict[str, torch.Tensor]) -> Iterator[list[str]]:
    piece: list[str] = []
    nbytes = 0
    for name, tensor in weights.items():
        if piece and (nbytes + tensor.nbytes > PIECE_BYTES or len(piece) == PIECE_NAMES):
            yield piece
            piece, nbytes = [], 0
        piece.append(name)
        nbytes += tensor.nbytes
    if piece:
        yield piece

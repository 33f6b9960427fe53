"""Digests that name a tensor, or a value with tensors in it, by its content."""

from __future__ import annotations

import hashlib

import msgspec
import torch

from .tensors import flatten


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return what names a tensor: element type, shape, order in memory, and its bytes.

    Raises:
        BadRequestError: It is sparse, on meta, or of another type that cannot be sent.
    """
    order, flat = flatten(tensor)
    head = f"{str(tensor.dtype).removeprefix('torch.')}|{list(tensor.shape)}|{list(order)}|"
    digest = hashlib.blake2b(head.encode("ascii"), digest_size=32)
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def tree_digest(raw: msgspec.Raw) -> str:
    """Return what names a tree of transport/trees.py."""
    return hashlib.sha256(bytes(raw)).hexdigest()

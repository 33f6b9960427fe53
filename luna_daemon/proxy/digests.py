"""Names of tensors by their content, worked out once for each tensor.

What patches are made of is never changed in place, by ComfyUI's own rule (it, too, goes by the identity of
a set of patches), so a tensor object is read once.
"""

from __future__ import annotations

import weakref

import torch

from ..transport.digests import tensor_digest


class Digests:
    """Names of tensors, remembered for as long as the tensor object lives."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}
        self.hashed_bytes = 0

    def of(self, tensor: torch.Tensor) -> str:
        """Return what names a tensor (transport/digests.py)."""
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        digest = tensor_digest(tensor)
        self.hashed_bytes += tensor.nbytes
        place, entries = id(tensor), self._known

        def forget(ref: weakref.ref[torch.Tensor]) -> None:
            # Its place in memory may be another tensor's by now.
            if place in entries and entries[place][0] is ref:
                del entries[place]

        self._known[place] = (weakref.ref(tensor, forget), digest)
        return digest

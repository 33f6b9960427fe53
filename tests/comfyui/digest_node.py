"""A node for tests, which ComfyUI servers load: what tells any two values apart, as text."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


class LunaTestDigest:
    """Shows a digest of all tensors in a value: bits, types, shapes and layouts in memory."""

    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        return {"required": {"value": ("*",)}}

    def show(self, value: Any) -> dict[str, Any]:
        digest = hashlib.sha256()
        _feed(digest, value)
        return {"ui": {"text": [digest.hexdigest()]}}


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        described = (value.dtype, tuple(value.shape), value.stride(), str(value.device))
        digest.update(repr(described).encode())
        digest.update(value.contiguous().cpu().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(digest, item)


NODE_CLASS_MAPPINGS = {"LunaTestDigest": LunaTestDigest}

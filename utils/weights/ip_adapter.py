"""The two halves of an IP-Adapter file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelFileError

PARTS = ("image_proj", "ip_adapter")
_SDXL_CONTEXT = 2048  # width of the text that SDXL's attention takes


def split_ip_adapter(weights: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return `{"image_proj": …, "ip_adapter": …, "path": …, "is_sdxl": …}`.

    Args:
        weights: As they are in the file: flat names under two prefixes, or two tables.
        path: The file.

    Raises:
        ModelFileError: One of the halves is missing.
    """
    halves: dict[str, Any] = {}
    for part in PARTS:
        prefix = f"{part}."
        halves[part] = dict(weights.get(part) or {}) or {
            name.removeprefix(prefix): tensor
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
        if not halves[part]:
            raise ModelFileError(
                f"'{path.name}' is not an IP-Adapter: it has no '{part}'.", "Choose another file."
            )
    widths = [
        tensor.shape[1]
        for name, tensor in halves["ip_adapter"].items()
        if name.endswith("to_k_ip.weight")
    ]
    return {**halves, "path": str(path), "is_sdxl": _SDXL_CONTEXT in widths}

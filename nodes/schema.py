"""Node schemas on every release of ComfyUI that has them."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

_FIELDS = {item.name for item in dataclasses.fields(io.Schema)}


def node_schema(**fields: Any) -> io.Schema:
    """Return a schema; what an older ComfyUI does not know, such as search_aliases, is left out."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _FIELDS})


def need_dynamic_combo() -> None:
    """Say in words that a ComfyUI is too old for slots that depend on another input.

    Raises:
        ImportError: It is.
    """
    if not hasattr(io, "DynamicCombo"):
        raise ImportError("this ComfyUI has no DynamicCombo: update it", name="io.DynamicCombo")

"""The ComfyUI side: the nodes, and where their models come from.

Importing the package loads nothing of ComfyUI: what is pure in it is tested without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension


def build_extension() -> ComfyExtension:
    """Make the extension that ComfyUI registers, and say in its log what was loaded."""
    from .extension import build

    return build()

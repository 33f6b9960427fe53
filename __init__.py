"""Luna Collection, as ComfyUI imports it.

ComfyUI loads this file under its path as module name and then awaits `comfy_entrypoint`. Nothing is
imported before that: the daemon and the tests load this same package without ComfyUI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./js"  # what the page loads, and help pages in docs/


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension whose nodes ComfyUI registers."""
    from .nodes import build_extension

    return build_extension()

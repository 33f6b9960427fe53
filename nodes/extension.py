"""The extension that ComfyUI registers: nodes and routes."""

from __future__ import annotations

import logging
import sys

from comfy_api.latest import ComfyExtension, io

from ..utils.log import get_logger
from .registry import Discovery, discover
from .web_routes import register_routes

log = get_logger("nodes")


class LunaExtension(ComfyExtension):
    """What ComfyUI asks for routes and nodes."""

    def __init__(self, found: Discovery) -> None:
        self._found = found

    async def on_load(self) -> None:
        """Register the routes for the page."""
        try:
            register_routes()
        except Exception:  # boundary: without routes the nodes still work
            log.exception("[Luna] The routes for the page could not be registered.")

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the node classes to register."""
        return list(self._found.nodes)


def build() -> ComfyExtension:
    """Find the nodes, and say in one line what was found."""
    found = discover(sys.modules[__package__])
    level = logging.WARNING if found.missing else logging.INFO
    # ComfyUI prints the bare message, so the line carries our name itself.
    log.log(level, "[Luna] %s", found.summary())
    return LunaExtension(found)

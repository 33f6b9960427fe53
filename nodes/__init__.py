"""The ComfyUI side: one extension that lists the nodes of the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..utils.log import get_logger

log = get_logger("nodes")

NODES: tuple[type[io.ComfyNode], ...] = ()


class LunaExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the node classes to register."""
        return list(NODES)


def build_extension() -> ComfyExtension:
    """Make the extension, and say in ComfyUI's log what was loaded."""
    # ComfyUI prints the bare message, so the line carries our name itself.
    log.info("[Luna] %d nodes loaded", len(NODES))
    return LunaExtension()

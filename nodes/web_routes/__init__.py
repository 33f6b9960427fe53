"""The routes of ComfyUI's server that our page uses, all below /luna/."""

from __future__ import annotations


def register_routes() -> None:
    """Add the routes to ComfyUI's server."""
    from server import PromptServer

    from . import daemon, lora_metadata, model_types, wildcards

    routes = PromptServer.instance.routes
    daemon.add_routes(routes)
    model_types.add_routes(routes)
    lora_metadata.add_routes(routes)
    wildcards.add_routes(routes)

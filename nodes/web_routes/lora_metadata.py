"""The route that tells the page about a LoRA: header, picture, and notes beside the file."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ...utils.errors import LunaError
from ...utils.loras.preview import lora_preview
from ..lora.lora_files import lora_path
from .origin import HOW_TO_ASK, may_ask


def add_routes(routes: web.RouteTableDef) -> None:
    """Add the route."""

    @routes.get("/luna/get_lora_metadata")
    async def get_lora_metadata(request: web.Request) -> web.Response:
        if not may_ask(request):
            text = "What is known of a LoRA is for ComfyUI's own page only."
            return web.json_response({"error": text, "hint": HOW_TO_ASK}, status=403)
        name = request.query.get("lora_name", "")
        try:
            return web.json_response(await asyncio.to_thread(_preview, name))
        except LunaError as error:
            return web.json_response({"error": error.message, "hint": error.hint}, status=404)


def _preview(name: str) -> dict[str, Any]:
    return lora_preview(lora_path(name))

"""The route that tells the page what each model type needs, and which files of this machine fit."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ...utils.model_types import MODEL_TYPES, NAME_OF_ROLE, VISION_ROLE, ModelType
from ...utils.routing.fitting import files_for
from ..model_folders import shelf


def add_routes(routes: web.RouteTableDef) -> None:
    """Add the route."""

    @routes.get("/luna/model_types")
    async def get_model_types(_: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(model_types))


def model_types() -> dict[str, Any]:
    """Return `{type: {"family", "clip_type", "slots": [{"role", "name", "files"}]}}`."""
    return {
        kind.name: {
            "family": kind.family,
            "clip_type": kind.clip_type.lower(),
            "slots": [
                {
                    "role": role,
                    "name": NAME_OF_ROLE[role],
                    "files": [file.name for file in files_for(shelf, role, kind.family)],
                }
                for role in _roles(kind)
            ],
        }
        for kind in MODEL_TYPES.values()
    }


def _roles(kind: ModelType) -> tuple[str, ...]:
    return (*kind.text_encoders, VISION_ROLE) if kind.vision else kind.text_encoders

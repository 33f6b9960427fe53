"""Routes about the daemon: its status, and starting and stopping it.

What changes something is POST and answers only our own page, or programs. What waits does so in a
thread, so that the page of ComfyUI stays quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.errors import ConnectionLostError
from ...utils.errors import LunaError
from ..daemon_access import breaker, launcher
from .origin import HOW_TO_ASK, may_ask

STOP_TIMEOUT_S = 60.0
Answer = dict[str, Any]


def add_routes(routes: web.RouteTableDef) -> None:
    """Add the routes."""

    @routes.get("/luna/daemon/status")
    async def get_status(_: web.Request) -> web.Response:
        return await _answer(_status)

    for name, action in (("start", _start), ("stop", _stop), ("restart", _restart)):
        routes.post(f"/luna/daemon/{name}")(_guarded(action))


def _guarded(action: Callable[[], Answer]) -> Any:
    async def handle(request: web.Request) -> web.Response:
        if not may_ask(request):
            text = "The daemon is started and stopped from ComfyUI's own page only."
            return web.json_response({"error": text, "hint": HOW_TO_ASK}, status=403)
        return await _answer(action)

    return handle


async def _answer(action: Callable[[], Answer]) -> web.Response:
    try:
        return web.json_response(await asyncio.to_thread(action))
    except LunaError as error:
        return web.json_response({"error": error.message, "hint": error.hint}, status=502)


def _status() -> Answer:
    # A client of its own: that of the nodes ends its calls when ComfyUI's Cancel is pressed.
    try:
        with DaemonClient() as client:
            return {"running": True, "status": client.status()}
    except ConnectionLostError as error:
        return {"running": False, "reason": error.message, "hint": error.hint}


def _start() -> Answer:
    started = launcher().begin()
    launcher().wait()
    breaker.succeeded()
    return {"running": True, "started": started}


def _stop() -> Answer:
    try:
        with DaemonClient() as client:
            client.stop_daemon()
    except ConnectionLostError:
        return {"running": False, "stopped": False}
    return {"running": not launcher().wait_until_gone(STOP_TIMEOUT_S), "stopped": True}


def _restart() -> Answer:
    _stop()
    return _start()

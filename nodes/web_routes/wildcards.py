"""Routes about wildcards: what a text can become, and which files there are.

Both answer only our own page, or programs. The work is done in threads of their own, few of them and for
a bounded time, so that no text keeps ComfyUI from its own work.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from ...utils.errors import InputError, LunaError
from ...utils.wildcards.asking import Asked, AskedPage, read_page, read_question
from ...utils.wildcards.preview import preview
from ..wildcard_folders import register_wildcards, wildcard_library
from .origin import HOW_TO_ASK, may_ask

WORKERS = 2
MAX_UNDER_WAY = 8  # more who ask at once are turned away
PATIENCE_S = 15.0  # files on a slow disk can take longer than any limit that the work has itself
MAX_BODY = 1_000_000  # bytes

_threads = ThreadPoolExecutor(WORKERS, "luna-wildcards")
_under_way: set[asyncio.Future[Any]] = set()
Answer = dict[str, Any]


def add_routes(routes: web.RouteTableDef) -> None:
    """Add the routes."""
    register_wildcards()

    @routes.post("/luna/wildcards")
    async def post_wildcards(request: web.Request) -> web.Response:
        async def answer() -> Answer:
            body = await _body(request)
            return await _in_thread(lambda: _preview(read_question(body)))

        return await _guarded(request, answer)

    @routes.get("/luna/wildcards")
    async def get_wildcards(request: web.Request) -> web.Response:
        async def answer() -> Answer:
            asked = read_page(request.query)
            return await _in_thread(functools.partial(_page, asked))

        return await _guarded(request, answer)


class _BusyError(LunaError):
    """Too many ask at once, or the answer does not come."""


async def _guarded(request: web.Request, answer: Callable[[], Awaitable[Answer]]) -> web.Response:
    if not may_ask(request):
        text = "Wildcards are for ComfyUI's own page only."
        return web.json_response({"error": text, "hint": HOW_TO_ASK}, status=403)
    try:
        return web.json_response(await answer())
    except _BusyError as error:
        return web.json_response({"error": error.message, "hint": error.hint}, status=503)
    except LunaError as error:
        return web.json_response({"error": error.message, "hint": error.hint}, status=400)


async def _body(request: web.Request) -> bytes:
    length = request.content_length
    if length is None or length > MAX_BODY:
        raise InputError(f"The request has to say its length, and be of at most {MAX_BODY} bytes.")
    return await request.read()


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    if len(_under_way) >= MAX_UNDER_WAY:
        raise _BusyError("Too many texts are being looked at.", "Wait a moment, and ask again.")
    future = asyncio.get_running_loop().run_in_executor(_threads, work)
    _under_way.add(future)
    future.add_done_callback(_finished)
    done, _ = await asyncio.wait({future}, timeout=PATIENCE_S)
    if not done:
        raise _BusyError(
            f"The answer takes longer than {PATIENCE_S:g} s.",
            "Are the folders of wildcards on a slow disk, or very large?",
        )
    return future.result()


def _finished(future: asyncio.Future[Any]) -> None:
    _under_way.discard(future)
    if not future.cancelled():
        future.exception()  # or asyncio complains of it, when nobody waits any longer


def _preview(asked: Asked) -> Answer:
    library = wildcard_library(*asked.directories)
    return preview(asked.question, library, asked.dialect)


def _page(asked: AskedPage) -> Answer:
    page = wildcard_library(*asked.directories).index(asked.start, asked.offset, asked.limit)
    return {"total": page.total, "files": [entry._asdict() for entry in page.entries]}

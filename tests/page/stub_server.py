"""The smallest server that boots ComfyUI's real frontend with the pack in it.

It serves the frontend's files, the pack's web directory and translations, and the answers without which
the page does not start. It runs nothing; what the page would have queued is kept for the tests.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

PACK = "luna-collection"


class StubServer:
    """A server in a thread of its own. Use it as a context manager.

    Args:
        frontend: Folder with the frontend's index.html.
        web_directory: The pack's JavaScript and help pages; it need not exist.
        object_info: What ComfyUI tells about the nodes.
        translations: What ComfyUI tells as `/i18n`.
    """

    def __init__(
        self,
        frontend: Path,
        web_directory: Path,
        object_info: Mapping[str, Any],
        translations: Mapping[str, Any],
    ) -> None:
        self.url = ""
        self.prompts: list[Any] = []
        self.loras: dict[
            str, Any
        ] = {}  # name → what our route tells of it; others it does not know
        self.texts: dict[str, Any] = {}  # text → what a text with wildcards can become
        self.questions: list[Any] = []
        self._frontend = frontend
        self._web_directory = web_directory
        self._settings: dict[str, Any] = {"Comfy.TutorialCompleted": True}
        self._answers: dict[str, Any] = {
            "users": {"storage": "server", "migrated": True},
            "settings": self._settings,
            "i18n": translations,
            "extensions": self._extensions(),
            "object_info": object_info,
            "userdata": [],
            "global_subgraphs": {},
            "node_replacements": {},
            "experiment/models": [],
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> StubServer:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        for name in self._answers:
            app.router.add_get(f"/api/{name}", self._answer)
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/api/settings/{id}", self._set)
        app.router.add_post("/api/prompt", self._prompt)
        app.router.add_get("/api/luna/get_lora_metadata", self._lora)
        app.router.add_post("/api/luna/wildcards", self._wildcards)
        app.router.add_get("/", self._index)
        if self._web_directory.is_dir():
            app.router.add_static(f"/extensions/{PACK}", self._web_directory)
        app.router.add_static("/", self._frontend)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def _extensions(self) -> list[str]:
        scripts = sorted(self._web_directory.rglob("*.js"))
        return [
            f"/extensions/{PACK}/{script.relative_to(self._web_directory).as_posix()}"
            for script in scripts
        ]

    async def _answer(self, request: web.Request) -> web.Response:
        return web.json_response(self._answers[request.path.removeprefix("/api/")])

    async def _index(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._frontend / "index.html")

    async def _set(self, request: web.Request) -> web.Response:
        self._settings[request.match_info["id"]] = await request.json()
        return web.Response()

    async def _prompt(self, request: web.Request) -> web.Response:
        self.prompts.append(await request.json())
        return web.json_response({"prompt_id": "1", "number": 1, "node_errors": {}})

    async def _lora(self, request: web.Request) -> web.Response:
        name = request.query["lora_name"]
        if name not in self.loras:
            unknown = {"error": f"There is no LoRA '{name}'.", "hint": "Choose again."}
            return web.json_response(unknown, status=404)
        return web.json_response(self.loras[name])

    async def _wildcards(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.questions.append(question)
        if question["text"] not in self.texts:
            refused = {"error": "The text is nested too deeply.", "hint": "Look for rings."}
            return web.json_response(refused, status=400)
        return web.json_response(self.texts[question["text"]])

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "stub"}
        await socket.send_json({"type": "status", "data": status})
        async for _ in socket:  # until the page closes it
            continue
        return socket


def translations_of(locales: Path) -> dict[str, Any]:
    """Return the pack's translations as ComfyUI sends them: language → kind of file → content."""
    kinds = ("main", "nodeDefs", "commands", "settings")
    found: dict[str, Any] = {}
    for language in sorted(path for path in locales.iterdir() if path.is_dir()):
        found[language.name] = content = {}
        for kind in kinds:
            file = language / f"{kind}.json"
            if not file.is_file():
                continue
            read = json.loads(file.read_text("utf-8"))
            if kind == "main":
                content.update(read)
            else:
                content[kind] = read
    return found

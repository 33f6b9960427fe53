"""Tests with ComfyUI's real frontend in a real browser, on a small server of our own.

One page serves all tests; each loads a graph of its own. Without a browser every test here is skipped,
with the reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from luna_command.chromium import NoChromiumError, find_chromium
from luna_command.console import CommandError

from .driver import Canvas
from .stub_server import StubServer, translations_of

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = "window.app?.extensionManager && !app.extensionManager.spinner && app.rootGraph"
BOOT_TIMEOUT_MS = 120_000


@pytest.fixture(scope="session")
def object_info() -> dict[str, Any]:
    """What ComfyUI tells about our nodes; tests/comfyui compares the file with the real thing."""
    file = Path(__file__).parent / "object_info.json"
    info: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return info


@pytest.fixture(scope="session")
def stub(root: Path, object_info: dict[str, Any]) -> Iterator[StubServer]:
    found = importlib.util.find_spec("comfyui_frontend_package")
    if found is None or found.origin is None:
        pytest.skip("The package comfyui-frontend-package is not installed in this environment.")
    static = Path(found.origin).parent / "static"
    translations = translations_of(root / "locales")
    with StubServer(static, root / "js", object_info, translations) as server:
        yield server


@pytest.fixture(scope="session")
def booted(stub: StubServer) -> Iterator[Canvas]:
    """Boot the page once."""
    try:
        browser_path = find_chromium(os.environ)
    except (NoChromiumError, CommandError) as reason:
        pytest.skip(str(reason))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(browser_path), args=BROWSER_ARGUMENTS
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        canvas = Canvas(page)
        page.on("pageerror", lambda error: canvas.errors.append(str(error)))
        ours = (stub.url, "data:", "blob:")
        page.route(lambda url: not url.startswith(ours), lambda route: route.abort())
        page.goto(stub.url, wait_until="domcontentloaded")
        page.wait_for_function(READY, timeout=BOOT_TIMEOUT_MS)
        yield canvas
        browser.close()


@pytest.fixture
def canvas(booted: Canvas) -> Iterator[Canvas]:
    """Return the page with the classic renderer, and fail when the page itself complains."""
    booted.errors.clear()
    booted.use_renderer(modern=False)
    yield booted
    assert booted.errors == []

"""Tests with a real ComfyUI, run by the interpreter of its environment.

`luna.py test --only comfyui` finds both. Without a ComfyUI every test here is skipped, with the reason.
Modules in this folder import ComfyUI inside tests and fixtures, never at their top: they are also
collected where there is no ComfyUI.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from luna_command.comfyui import ComfyUI, NoComfyUIError, find_comfyui


@pytest.fixture(scope="session", autouse=True)
def comfyui(root: Path) -> ComfyUI:
    """Return the ComfyUI to test with; every test in this folder is skipped when there is none."""
    try:
        return find_comfyui(os.environ, root, Path.home(), Path(sys.executable))
    except NoComfyUIError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def server(comfyui: ComfyUI, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a running server with small models, for tests that need no daemon."""
    from .comfy_server import ComfyServer, install_pack
    from .router_models import make_ip_adapter, make_lora, make_sd15

    base = tmp_path_factory.mktemp("server")
    for make in (make_sd15, make_lora, make_ip_adapter):
        make(base / "models")
    install_pack(root, base)
    makers = base / "custom_nodes" / "stack_makers"
    makers.mkdir()
    shutil.copy(Path(__file__).with_name("stack_makers.py"), makers / "__init__.py")
    server = ComfyServer(comfyui, base, {"LUNA_RUNTIME_DIR": str(base / "run"), "LUNA_PORT": "0"})
    yield server
    server.stop()


@pytest.fixture(scope="session")
def studio(comfyui: ComfyUI, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return two running servers with small models; the first node that needs their daemon starts it."""
    pytest.importorskip("psutil")
    from .studio import Studio

    studio = Studio(comfyui, root, tmp_path_factory.mktemp("studio"))
    yield studio
    studio.close()

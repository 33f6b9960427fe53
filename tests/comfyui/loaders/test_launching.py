"""What a ComfyUI tells the daemon that it starts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def access(comfy_is_there: None) -> Iterator[Any]:
    from luna_collection.nodes import daemon_access

    daemon_access.launcher.cache_clear()
    yield daemon_access
    daemon_access.launcher.cache_clear()


def told(access: Any, option: str) -> str:
    options = access.launcher()._options
    return options[options.index(option) + 1] if option in options else ""


def test_workers_run_with_the_python_of_this_comfyui(access, monkeypatch):
    """An environment that lies in ComfyUI's folder may be an old one."""
    assert told(access, "--comfyui-python") == sys.executable
    access.launcher.cache_clear()
    monkeypatch.setenv("LUNA_COMFYUI_PYTHON", sys.executable)
    assert told(access, "--comfyui-python") == ""  # the daemon reads the same settings


def test_small_vaes_may_be_read_from_folders_of_their_own(access, monkeypatch, tmp_path):
    import folder_paths

    folders, extensions = folder_paths.folder_names_and_paths["vae_approx"]
    more = ([*folders, str(tmp_path)], extensions)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae_approx", more)
    assert str(tmp_path.resolve()) in told(access, "--model-roots")

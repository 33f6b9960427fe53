"""Which ComfyUI the demonstration takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.luna_daemon.demo.comfyui import installation
from luna_collection.utils.errors import InputError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_without_a_path_the_one_at_home_is_taken(home, monkeypatch):
    (home / "ComfyUI" / "comfy").mkdir(parents=True)
    (home / "ComfyUI" / "main.py").touch()
    monkeypatch.setattr(installation, "missing_packages", lambda *_: [])
    assert installation.find_installation(None).root == (home / "ComfyUI").resolve()


def test_where_there_is_none_every_place_is_named(home):
    with pytest.raises(InputError, match=r"COMFYUI_PATH is not set.*~/ComfyUI"):
        installation.find_installation(None)

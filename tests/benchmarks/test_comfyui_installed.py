from __future__ import annotations

import os
from pathlib import Path

import pytest
from luna_collection.benchmarks.comfyui_area.installed import find, why_none
from luna_collection.luna_daemon.errors import ConfigError


def make_comfyui(folder: Path) -> Path:
    """Make what is looked for: its program and its package, and an environment's interpreter."""
    for name in ("main.py", ".venv/bin/python", "comfy/sd.py"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def test_the_one_that_is_named_comes_before_that_in_the_home_folder(tmp_path):
    named, usual = make_comfyui(tmp_path / "named"), make_comfyui(tmp_path / "home" / "ComfyUI")
    env = {"COMFYUI_PATH": str(named)}
    for environment, folder in ((env, named), ({}, usual)):
        found = find(environment, home=tmp_path / "home", package_root=tmp_path)
        assert found is not None
        assert found.folder == folder.resolve()
        assert found.python == folder.resolve() / ".venv" / "bin" / "python"


def test_without_one_there_is_none(tmp_path):
    assert find({}, home=tmp_path, package_root=tmp_path) is None


def test_a_wrong_name_is_no_reason_to_take_another(tmp_path):
    make_comfyui(tmp_path / "ComfyUI")
    with pytest.raises(ConfigError):
        find({"COMFYUI_PATH": str(tmp_path / "x")}, home=tmp_path, package_root=tmp_path)


def test_the_reason_names_the_wrong_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "COMFYUI_PATH", str(tmp_path / "nothing"))
    assert str(tmp_path / "nothing") in why_none()

"""Finding ComfyUI and its interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from luna_command import comfyui
from luna_command.console import CommandError


class TestComfyUI:
    @pytest.fixture
    def folder(self, tmp_path):
        """Make what looks like a ComfyUI at a path below tmp_path."""

        def make(name: str, python: str | None = ".venv/bin/python") -> Path:
            path = tmp_path / name
            (path / "comfy").mkdir(parents=True)
            (path / "main.py").touch()
            if python:
                (path / python).parent.mkdir(parents=True)
                (path / python).touch()
            return path

        return make

    def find(self, tmp_path, environ=None, checkout="elsewhere/luna"):
        return comfyui.find_comfyui(
            environ or {}, tmp_path / checkout, tmp_path / "home", Path(sys.executable)
        )

    def test_the_variable_comes_first(self, tmp_path, folder):
        named, _ = folder("named"), folder("home/ComfyUI")
        assert self.find(tmp_path, {"COMFYUI_PATH": str(named)}).root == named

    def test_then_the_folder_above_custom_nodes(self, tmp_path, folder):
        above, _ = folder("ComfyUI"), folder("home/ComfyUI")
        assert self.find(tmp_path, checkout="ComfyUI/custom_nodes/luna").root == above

    def test_then_the_home_folder(self, tmp_path, folder):
        at_home = folder("home/ComfyUI")
        assert self.find(tmp_path).root == at_home

    def test_none_is_a_reason_to_skip(self, tmp_path):
        with pytest.raises(comfyui.NoComfyUIError, match="COMFYUI_PATH is not set"):
            self.find(tmp_path)

    def test_a_wrong_variable_is_an_error(self, tmp_path):
        with pytest.raises(CommandError, match="where there is no ComfyUI"):
            self.find(tmp_path, {"COMFYUI_PATH": str(tmp_path)})

    def test_a_wrong_interpreter_is_an_error(self, tmp_path, folder):
        folder("home/ComfyUI")
        with pytest.raises(CommandError, match="not a file"):
            self.find(tmp_path, {"COMFYUI_PYTHON": str(tmp_path / "none")})

    @pytest.mark.parametrize(
        "python",
        [
            ".venv/bin/python",
            "venv/bin/python",
            "venv/Scripts/python.exe",
            "../python_embeded/python.exe",
        ],
    )
    def test_its_own_interpreter_is_found(self, tmp_path, folder, python):
        root = folder("home/ComfyUI", python)
        assert self.find(tmp_path).python.resolve() == (root / python).resolve()

    def test_without_an_interpreter_of_its_own_and_ours_unfit_it_is_skipped(
        self, tmp_path, folder, monkeypatch
    ):
        folder("home/ComfyUI", python=None)
        monkeypatch.setattr(comfyui, "missing_packages", lambda python, names: list(names))
        with pytest.raises(comfyui.NoComfyUIError, match="Set COMFYUI_PYTHON"):
            self.find(tmp_path)

    def test_the_first_of_the_other_interpreters_that_fits_is_taken(
        self, tmp_path, folder, monkeypatch
    ):
        root = folder("home/ComfyUI", python=None)
        fit = Path("/usr/bin/fit")
        lacking = {fit: []}
        monkeypatch.setattr(
            comfyui, "missing_packages", lambda python, names: lacking.get(python, names)
        )
        found = comfyui.find_comfyui({}, tmp_path / "luna", tmp_path / "home", Path("ours"), fit)
        assert found == comfyui.ComfyUI(root, fit)

    def test_our_own_environment_is_not_taken_for_comfyuis(self, root):
        extras = (root / "pyproject.toml").read_text("utf-8")
        assert comfyui.COMFYUI_PACKAGE not in extras

    def test_missing_packages(self):
        wanted = ["pytest", "luna-no-such-package"]
        assert comfyui.missing_packages(Path(sys.executable), wanted) == ["luna-no-such-package"]
        assert comfyui.missing_packages(Path("no-such-python"), wanted) == wanted

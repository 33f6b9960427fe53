"""When .venv is right as it is, and what its set-up says when it cannot go on."""

from __future__ import annotations

import json
import shutil
import sys
import venv
from pathlib import Path

import pytest
from luna_command import environment
from luna_command.console import CommandError
from luna_command.paths import venv_python


class TestEnvironment:
    @pytest.fixture
    def checkout(self, tmp_path):
        """The files that a stamp depends on, beside an environment without pip."""
        for name in environment.INPUTS:
            (tmp_path / name).write_text(name, "utf-8")
        venv.create(tmp_path / ".venv", with_pip=False, symlinks=sys.platform != "win32")
        return tmp_path

    def stamp(self, checkout: Path) -> Path:
        version = environment.interpreter_version(venv_python(checkout / ".venv"))
        path = checkout / ".venv" / environment.STAMP_NAME
        path.write_text(json.dumps(environment.expected_stamp(checkout, version)), "utf-8")
        return path

    def is_ready(self, checkout: Path) -> bool:
        return environment.is_ready(checkout, checkout / ".venv")

    def test_a_stamped_environment_is_ready(self, checkout):
        self.stamp(checkout)
        assert self.is_ready(checkout)

    def test_without_a_stamp_it_is_not(self, checkout):
        assert not self.is_ready(checkout)

    def test_without_an_environment_it_is_not(self, checkout):
        shutil.rmtree(checkout / ".venv")
        assert not self.is_ready(checkout)

    @pytest.mark.parametrize("name", environment.INPUTS)
    def test_a_changed_input_needs_a_new_set_up(self, checkout, name):
        self.stamp(checkout)
        (checkout / name).write_text("changed", "utf-8")
        assert not self.is_ready(checkout)

    def test_a_changed_recipe_needs_a_new_set_up(self, checkout, monkeypatch):
        self.stamp(checkout)
        monkeypatch.setattr(environment, "RECIPE", environment.RECIPE + 1)
        assert not self.is_ready(checkout)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": 1}'])
    def test_a_damaged_stamp_is_no_stamp(self, checkout, text):
        self.stamp(checkout).write_text(text, "utf-8")
        assert not self.is_ready(checkout)

    def test_an_interpreter_that_does_not_start_needs_a_new_set_up(self, checkout):
        self.stamp(checkout)
        venv_python(checkout / ".venv").unlink()
        assert not self.is_ready(checkout)

    def test_another_python_version_needs_a_new_set_up(self, checkout):
        stamp = self.stamp(checkout)
        old = {**json.loads(stamp.read_text("utf-8")), "python": "3.1"}
        stamp.write_text(json.dumps(old), "utf-8")
        assert not self.is_ready(checkout)

    def test_an_environment_whose_pip_does_not_work_is_made_anew(self, checkout):
        assert environment.pip_version(venv_python(checkout / ".venv")) is None

    @pytest.mark.parametrize("module", ["venv", "ensurepip"])
    def test_a_python_without_venv_names_the_package_to_install(self, monkeypatch, module):
        monkeypatch.setattr(
            environment.importlib.util, "find_spec", lambda name: None if name == module else name
        )
        with pytest.raises(CommandError, match=rf"'{module}'.*apt install python3\.\d+-venv"):
            environment._check_host()

    def test_too_little_room_is_said_before_anything_is_installed(self):
        with pytest.raises(CommandError, match="needs about 1000000000 GB"):
            environment._check_disk(1e9)

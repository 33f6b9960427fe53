"""luna.py: what it offers and refuses, before anything is set up."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from luna_command import main


def run_luna(*arguments: str, script: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class TestCommandLine:
    @pytest.fixture
    def bare(self, tmp_path, root):
        """A checkout that has nothing but the command."""
        shutil.copy2(root / "luna.py", tmp_path / "luna.py")
        shutil.copytree(root / "scripts" / "luna_command", tmp_path / "scripts" / "luna_command")
        return tmp_path / "luna.py"

    def test_help_lists_the_commands_that_can_be_run_here(self, root):
        done = run_luna("--help", script=root / "luna.py")
        assert done.returncode == 0
        for name in ("setup", "demo", "daemon", "test"):
            assert f"\n  {name}" in done.stdout

    def test_what_a_checkout_lacks_is_not_offered(self, bare):
        done = run_luna("--help", script=bare)
        commands = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
        assert commands == ["setup"]

    def test_asking_for_a_missing_command_gives_a_sentence(self, bare):
        done = run_luna("bench", script=bare)
        assert done.stdout == "luna.py has no command 'bench' here. It has: setup.\n"
        assert done.returncode == main.USAGE_ERROR

    def test_no_command_shows_the_help_and_fails(self, bare):
        done = run_luna(script=bare)
        assert done.stdout.startswith("usage:")
        assert done.returncode == main.USAGE_ERROR

    def test_setup_takes_no_arguments(self, bare):
        done = run_luna("setup", "--fast", script=bare)
        assert done.stdout == "luna.py setup takes no arguments.\n"
        assert done.returncode == main.USAGE_ERROR
        assert not (bare.parent / ".venv").exists()

    def test_an_unknown_area_is_refused_before_anything_is_set_up(self, bare):
        (bare.parent / "tests").mkdir()
        done = run_luna("test", "--only", "page", script=bare)
        assert "invalid choice: 'page'" in done.stderr
        assert done.returncode == main.USAGE_ERROR
        assert not (bare.parent / ".venv").exists()

    def test_it_needs_only_the_standard_library(self, root):
        imported = set()
        for path in [root / "luna.py", *(root / "scripts" / "luna_command").glob("*.py")]:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(node.module.split(".")[0])
        assert imported - sys.stdlib_module_names == {"luna_command"}

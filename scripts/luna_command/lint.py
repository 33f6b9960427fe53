"""Format, lint and type checks.

mypy has to see the sources as the package `luna_collection`, whatever the checkout's folder is called:
it gets a folder with links to them. Where links are not possible (Windows without developer mode) the
folder holds copies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .console import say

PACKAGE = "luna_collection"
SOURCES = ("__init__.py", "luna_daemon", "nodes", "utils")
COMMAND_SOURCES = "scripts/luna_command"


def run_lint(python: Path, root: Path, state: Path) -> bool:
    """Run all checks, also after one has failed. Returns whether all passed."""
    ruff = [str(python), "-m", "ruff"]
    passed = [
        _check("ruff format --check", [*ruff, "format", "--check", "."], root),
        _check("ruff check", [*ruff, "check", "."], root),
        _run_mypy(python, root, state / "typecheck"),
    ]
    return all(passed)


def _check(name: str, command: Sequence[str], root: Path) -> bool:
    say(f"{name}:")
    return subprocess.run(command, cwd=root, check=False).returncode == 0


def _run_mypy(python: Path, root: Path, view: Path) -> bool:
    say("mypy:")
    link_sources(root, view)
    command = [str(python), "-m", "mypy", "-p", PACKAGE, "-p", Path(COMMAND_SOURCES).name]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "MYPYPATH": str(view)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    say(as_paths_of_checkout(done.stdout, view.relative_to(root)).rstrip())
    return done.returncode == 0


def as_paths_of_checkout(output: str, view: Path) -> str:
    """Turn the paths of the view in mypy's output into paths of the checkout."""
    package, command = view / PACKAGE, view / Path(COMMAND_SOURCES).name
    output = output.replace(f"{command}{os.sep}", f"{COMMAND_SOURCES}/")
    return output.replace(f"{package}{os.sep}", "")


def link_sources(root: Path, view: Path) -> None:
    """Make `view` a folder that shows the sources under their package names."""
    shutil.rmtree(view, ignore_errors=True)
    (view / PACKAGE).mkdir(parents=True)
    _link(root / COMMAND_SOURCES, view / Path(COMMAND_SOURCES).name)
    for name in SOURCES:
        _link(root / name, view / PACKAGE / name)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)

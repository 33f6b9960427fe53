"""Find a ComfyUI and the interpreter that it runs with.

Used by `luna.py test` and by the fixtures in tests/comfyui/. What the environment variables name must
be right: a wrong COMFYUI_PATH is an error, not a reason to skip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .console import CommandError
from .installer import run_quietly

# A package that every ComfyUI environment has and ours does not.
COMFYUI_PACKAGE = "torchsde"

_MISSING = """
import importlib.metadata as m, sys
for name in sys.argv[1:]:
    try:
        m.distribution(name)
    except m.PackageNotFoundError:
        print(name)
"""


@dataclass(frozen=True)
class ComfyUI:
    """A checkout of ComfyUI and the interpreter of its environment."""

    root: Path
    python: Path


class NoComfyUIError(Exception):
    """There is no ComfyUI to test with; the text is the reason to skip."""


def find_comfyui(environ: Mapping[str, str], checkout: Path, home: Path, *pythons: Path) -> ComfyUI:
    """Return the ComfyUI to test with.

    Args:
        environ: COMFYUI_PATH and COMFYUI_PYTHON are looked up here.
        checkout: Folder of Luna Collection; it may be inside ComfyUI's custom_nodes.
        home: The user's home folder.
        pythons: The first of these that can run ComfyUI is taken if it has none of its own.

    Raises:
        NoComfyUIError: None was found.
        CommandError: An environment variable names something that is not there.
    """
    root = _find_root(environ, checkout, home)
    return ComfyUI(root, _find_python(environ, root, pythons))


def _find_root(environ: Mapping[str, str], checkout: Path, home: Path) -> Path:
    if named := environ.get("COMFYUI_PATH"):
        root = Path(named).expanduser()
        if not _is_comfyui(root):
            raise CommandError(f"COMFYUI_PATH is '{named}', where there is no ComfyUI.")
        return root.resolve()
    candidates = [home / "ComfyUI"]
    if checkout.parent.name == "custom_nodes":
        candidates.insert(0, checkout.parent.parent)
    for root in candidates:
        if _is_comfyui(root):
            return root.resolve()
    raise NoComfyUIError(
        "No ComfyUI was found: COMFYUI_PATH is not set, this checkout is not inside custom_nodes, "
        f"and {home / 'ComfyUI'} does not exist."
    )


def _is_comfyui(root: Path) -> bool:
    return (root / "main.py").is_file() and (root / "comfy").is_dir()


def _find_python(environ: Mapping[str, str], root: Path, others: Iterable[Path]) -> Path:
    if named := environ.get("COMFYUI_PYTHON"):
        python = Path(named).expanduser()
        if not python.is_file():
            raise CommandError(f"COMFYUI_PYTHON is '{named}', which is not a file.")
        return python
    for python in python_candidates(root):
        if python.is_file():
            return python
    for python in others:
        if not missing_packages(python, [COMFYUI_PACKAGE]):
            return python
    raise NoComfyUIError(
        f"The ComfyUI in {root} has no .venv or venv, and this Python cannot run it. "
        "Set COMFYUI_PYTHON to its interpreter."
    )


def python_candidates(root: Path) -> list[Path]:
    """Return where the interpreter of a ComfyUI usually is, most likely first."""
    own = [
        root / folder / script
        for folder in (".venv", "venv")
        for script in ("bin/python", "Scripts/python.exe")
    ]
    portable = [
        folder / "python_embeded" / "python.exe"  # ComfyUI's own spelling
        for folder in (root.parent, root)
    ]
    return own + portable


def missing_packages(python: Path, names: Iterable[str]) -> list[str]:
    """Return which packages an interpreter lacks; all of them when it does not start."""
    wanted = list(names)
    answer = run_quietly([str(python), "-c", _MISSING, *wanted])
    return wanted if answer is None else answer.split()

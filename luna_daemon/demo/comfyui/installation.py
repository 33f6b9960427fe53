"""Which ComfyUI the demonstration uses, and whether its Python has what the pack needs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....utils.errors import InputError
from ...comfyui_folder import PACKAGE_ROOT, find_comfyui, find_comfyui_python

COMFYUI_PACKAGES = ("torch", "aiohttp", "safetensors")
_TIMEOUT_S = 60.0
_MISSING = """
import importlib.metadata as metadata, sys
for name in sys.argv[1:]:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        print(name)
"""


@dataclass(frozen=True, slots=True)
class ComfyUI:
    """A ComfyUI and the interpreter of its environment."""

    root: Path
    python: Path


def find_installation(named: Path | None) -> ComfyUI:
    """Return the ComfyUI that was named, else that of COMFYUI_PATH, the one we lie in, or ~/ComfyUI.

    Raises:
        InputError: There is none, or it cannot run or take the pack; the message says what is missing.
    """
    root = find_comfyui(named.expanduser() if named else None) or _at_home()
    if root is None:
        raise InputError(
            "No ComfyUI was found: COMFYUI_PATH is not set, this pack is not in custom_nodes, and there "
            "is none in ~/ComfyUI.",
            "Name its folder: demo --comfyui /path/to/ComfyUI",
        )
    python = find_comfyui_python(root, None)
    missing = missing_packages(python, COMFYUI_PACKAGES)
    if missing:
        raise InputError(
            f"{python} cannot run the ComfyUI in {root}: it lacks {', '.join(missing)}.",
            "Set COMFYUI_PYTHON to the interpreter that runs ComfyUI.",
        )
    _check_requirements(python)
    return ComfyUI(root, python)


def _at_home() -> Path | None:
    home = Path.home() / "ComfyUI"
    return find_comfyui(home) if (home / "main.py").is_file() else None


def _check_requirements(python: Path) -> None:
    requirements = PACKAGE_ROOT / "requirements.txt"
    if not requirements.is_file():
        raise InputError(
            f"{PACKAGE_ROOT} is not a checkout of Luna Collection: it has no requirements.txt.",
            "Run the demo from a checkout, with python3 luna.py demo --comfyui PATH.",
        )
    missing = missing_packages(python, requirement_names(requirements.read_text("utf-8")))
    if missing:
        install = [str(python), "-m", "pip", "install", "-r", str(requirements)]
        raise InputError(
            f"ComfyUI's environment lacks {', '.join(missing)}, which the pack needs.",
            f"Install it there: {shlex.join(install)}",
        )


def requirement_names(text: str) -> list[str]:
    """Return the package names in the text of a requirements file."""
    matches = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in text.splitlines())
    return [match[1] for match in matches if match]


def missing_packages(python: Path, names: Sequence[str]) -> list[str]:
    """Return which packages an interpreter lacks.

    Raises:
        InputError: It does not start.
    """
    try:
        asked = subprocess.run(
            [str(python), "-c", _MISSING, *names],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"ComfyUI's Python, {python}, cannot be run: {error}.",
            "Set COMFYUI_PYTHON to the interpreter that runs ComfyUI.",
        ) from error
    return asked.stdout.split()

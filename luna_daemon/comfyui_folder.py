"""Where ComfyUI is, if it is anywhere, and which Python it runs with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import ConfigError

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def find_comfyui(
    setting: Path | None, env: Mapping[str, str] | None = None, package_root: Path = PACKAGE_ROOT
) -> Path | None:
    """Return ComfyUI's folder: the setting, else COMFYUI_PATH, else the one above `custom_nodes`.

    Raises:
        ConfigError: A folder was named, and it is not ComfyUI's.
    """
    env = os.environ if env is None else env
    named = setting or (Path(env["COMFYUI_PATH"]) if env.get("COMFYUI_PATH") else None)
    if named is not None:
        if not _is_comfyui(named):
            raise ConfigError(
                f"{named} is not ComfyUI's folder: it has no main.py and comfy/.",
                "Correct comfyui_path or COMFYUI_PATH.",
            )
        return named.resolve()
    if package_root.parent.name == "custom_nodes" and _is_comfyui(package_root.parent.parent):
        return package_root.parent.parent
    return None


def find_comfyui_python(
    folder: Path, setting: Path | None, env: Mapping[str, str] | None = None
) -> Path:
    """Return the Python that runs a ComfyUI.

    It is the setting, else COMFYUI_PYTHON, else that of an environment in ComfyUI's folder or of the
    portable package around it, else the one that runs this.

    Raises:
        ConfigError: An interpreter was named that is not there.
    """
    env = os.environ if env is None else env
    named = setting or (Path(env["COMFYUI_PYTHON"]) if env.get("COMFYUI_PYTHON") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"{named} is not a Python interpreter.",
                "Correct comfyui_python or COMFYUI_PYTHON.",
            )
        return named.absolute()
    for python in _usual_pythons(folder):
        if python.is_file():
            return python
    return Path(sys.executable)


def _usual_pythons(folder: Path) -> list[Path]:
    environments = [
        folder / name / script
        for name in (".venv", "venv")
        for script in ("bin/python", "Scripts/python.exe")
    ]
    portable = [
        place / "python_embeded" / "python.exe"  # ComfyUI's own spelling
        for place in (folder.parent, folder)
    ]
    return environments + portable


def _is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()

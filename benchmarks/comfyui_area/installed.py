"""The ComfyUI that is measured: COMFYUI_PATH, else the one around this checkout, else ~/ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...luna_daemon.comfyui_folder import PACKAGE_ROOT, find_comfyui, find_comfyui_python
from ...luna_daemon.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Installed:
    """A ComfyUI and the Python that runs it."""

    folder: Path
    python: Path


def find(
    env: Mapping[str, str] | None = None,
    home: Path | None = None,
    package_root: Path = PACKAGE_ROOT,
) -> Installed | None:
    """Return the ComfyUI to measure; None when there is none.

    Raises:
        ConfigError: One was named that is not there.
    """
    folder = find_comfyui(None, env, package_root)
    usual = (home or Path.home()) / "ComfyUI"
    if folder is None and (usual / "main.py").is_file():
        folder = find_comfyui(usual, env, package_root)
    return None if folder is None else Installed(folder, find_comfyui_python(folder, None, env))


def why_none() -> str:
    """Return why there is no ComfyUI to measure; "" when there is one."""
    try:
        found = find()
    except ConfigError as error:
        return str(error)
    if found is None:
        return (
            "No ComfyUI was found: COMFYUI_PATH is not set, this checkout is not inside custom_nodes, "
            f"and {Path.home() / 'ComfyUI'} does not exist. Set COMFYUI_PATH to ComfyUI's folder."
        )
    return ""

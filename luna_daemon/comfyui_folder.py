"""Where ComfyUI is, if it is anywhere."""

from __future__ import annotations

import os
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


def _is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()

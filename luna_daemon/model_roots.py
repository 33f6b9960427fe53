"""The folders that models may lie in: those of the settings, and those that ComfyUI looks into."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

EXTRA_PATHS_FILE = "extra_model_paths.yaml"


def comfyui_model_roots(comfyui: Path) -> tuple[Path, ...]:
    """Return ComfyUI's models folder, where its links to folders lead, and its extra model paths.

    Raises:
        ConfigError: Its extra_model_paths.yaml cannot be read.
    """
    models = comfyui / "models"
    links = [path for path in sorted(models.glob("*")) if path.is_symlink() and path.is_dir()]
    return (models, *(Path(os.path.realpath(link)) for link in links), *_extra_paths(comfyui))


def _extra_paths(comfyui: Path) -> list[Path]:
    file = comfyui / EXTRA_PATHS_FILE
    if not file.is_file():
        return []
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"ComfyUI's {file} cannot be read: {error}.", "Correct it; ComfyUI needs it too."
        ) from error
    sections = content.values() if isinstance(content, dict) else ()
    return [path for section in sections for path in _paths_of(section, file.parent)]


def _paths_of(section: Any, beside: Path) -> list[Path]:
    """Return the folders of one section: one or several lines for each kind of model."""
    if not isinstance(section, dict):
        return []
    base = section.get("base_path")
    start = beside / _expanded(str(base)) if base else beside
    lines = [
        line.strip()
        for kind, value in section.items()
        if kind not in ("base_path", "is_default") and isinstance(value, str)
        for line in value.split("\n")
    ]
    return [start / line for line in lines if line]


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))

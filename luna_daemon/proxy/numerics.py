"""The settings of this process's ComfyUI that decide about values: the daemon's workers must share them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import comfy
import torch
from comfy.cli_args import args

from ..numerics import numerics_of


def current_numerics() -> dict[str, str]:
    """Return version of ComfyUI and torch, and the options that are set."""
    return numerics_of(args, comfyui=comfyui_version(), torch=str(torch.__version__))


def comfyui_version() -> str:
    """Return ComfyUI's version, e.g. "0.25.0"."""
    loaded = sys.modules.get("comfyui_version")
    if loaded is None:
        # A module beside the package `comfy`, which ComfyUI has on its path.
        file = Path(comfy.__path__[0]).parent / "comfyui_version.py"
        spec = importlib.util.spec_from_file_location("comfyui_version", file)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    return str(loaded.__version__)

"""Imports ComfyUI into a process that is none: no command line is read, and nothing of it but `comfy`.

ComfyUI chooses devices, element types and attention while its modules are imported, from
`comfy.cli_args.args`. So those are set first, from the numerics that the client told.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ....utils.log import get_logger
from ...errors import IncompatibleError
from ...numerics import FAST, FLAGS, unknown_settings

log = get_logger("comfyui")

# What `comfy` imports of its tree. The tree itself must not be on sys.path: its `utils`, `nodes` and
# `server` would hide other packages of these names.
_NAMES = ("comfy", "node_helpers")
_VERSION = re.compile(r"""__version__ *= *["']([^"']+)["']""")
_WITHOUT_NETWORK = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def boot(folder: Path, device: str, numerics: Mapping[str, str]) -> None:
    """Import ComfyUI with these settings. A second call with the same ones does nothing.

    Args:
        folder: ComfyUI's folder.
        device: torch's name of the device; CUDA_VISIBLE_DEVICES shows this process no other.
        numerics: The client's settings; empty: ComfyUI's defaults.

    Raises:
        IncompatibleError: The settings cannot be taken over, or ComfyUI runs with others already.
    """
    unknown = unknown_settings(numerics)
    if unknown:
        raise IncompatibleError(
            f"The client's ComfyUI has settings that this daemon does not know: {', '.join(unknown)}.",
            "Update the older of the two and restart it.",
        )
    for name in _WITHOUT_NETWORK:
        os.environ[name] = "1"
    _expose(folder)
    with warnings.catch_warnings():  # ComfyUI's own affairs, which nobody here can act on
        warnings.simplefilter("ignore")
        args: Any = importlib.import_module("comfy.cli_args").args
        late = "comfy.model_management" in sys.modules
        changed = _set_flags(args, device, numerics)
        if late and changed:
            raise IncompatibleError(
                f"ComfyUI runs in this process already, with other settings: {', '.join(changed)}.",
                "Restart the process.",
            )
        _forward_log()
        importlib.import_module("comfy.model_management")
        importlib.import_module("comfy.sd")


def comfyui_version(folder: Path) -> str:
    """Return the version of the ComfyUI in a folder; "" when it does not say."""
    file = folder / "comfyui_version.py"
    found = _VERSION.search(file.read_text("utf-8")) if file.is_file() else None
    return found[1] if found else ""


def _expose(folder: Path) -> None:
    """Let `import comfy` find the tree's."""
    loaded = sys.modules.get("comfy")
    if loaded is not None:
        # A namespace package has no __file__.
        found = Path(next(iter(loaded.__path__))).resolve().parent
        if found != folder.resolve():
            raise IncompatibleError(
                f"This process has loaded the ComfyUI in {found}, not the one in {folder}.",
                "Restart the process.",
            )
        return
    sys.meta_path.insert(0, _TreeFinder(folder))


class _TreeFinder(importlib.abc.MetaPathFinder):
    """Finds a few top-level names in ComfyUI's folder, and no other."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for the names of the tree; everything below them is found as usual."""
        if fullname not in _NAMES:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [self._folder])


def _set_flags(args: Any, device: str, numerics: Mapping[str, str]) -> list[str]:
    """Set the flags; return the names of those that were otherwise."""
    wanted: dict[str, Any] = {flag: flag in numerics for flag in FLAGS}
    wanted["cpu"] = device == "cpu"
    if FAST in numerics:
        features = importlib.import_module("comfy.cli_args").PerformanceFeature
        wanted[FAST] = {features(name) for name in numerics[FAST].split(",")}
    else:
        wanted[FAST] = set()
    if wanted["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    changed = []
    for name, value in wanted.items():
        if not hasattr(args, name):
            if value:
                raise IncompatibleError(
                    f"The client's ComfyUI runs with {name}, which the daemon's ComfyUI does not know.",
                    "Update the older of the two and restart it.",
                )
        elif (getattr(args, name) or None) != (value or None):
            setattr(args, name, value)
            changed.append(name)
    return changed


class _ToOurLog(logging.Handler):
    """Passes on what ComfyUI writes into the root logger: its information is detail for us."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("luna"):
            level = record.levelno if record.levelno > logging.INFO else logging.DEBUG
            log.log(level, "%s", record.getMessage())


def _forward_log() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, _ToOurLog) for handler in root.handlers):
        root.addHandler(_ToOurLog())

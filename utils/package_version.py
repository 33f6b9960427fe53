"""The package's version, from pyproject.toml where it is written once."""

from __future__ import annotations

import re
from pathlib import Path


def _read() -> str:
    """Read the checkout's pyproject.toml; an installed wheel has its metadata instead."""
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():
        found = re.search(r'^version = "([^"]+)"', project.read_text("utf-8"), re.MULTILINE)
        if found:
            return found.group(1)
    from importlib.metadata import version

    return version("luna-collection")


PACKAGE_VERSION = _read()

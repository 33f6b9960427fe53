"""Tests with a real ComfyUI, run by the interpreter of its environment.

`luna.py test --only comfyui` finds both. Without a ComfyUI every test here is skipped, with the reason.
Modules in this folder import ComfyUI inside tests and fixtures, never at their top: they are also
collected where there is no ComfyUI.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from luna_command.comfyui import ComfyUI, NoComfyUIError, find_comfyui


@pytest.fixture(scope="session", autouse=True)
def comfyui(root: Path) -> ComfyUI:
    """Return the ComfyUI to test with; every test in this folder is skipped when there is none."""
    try:
        return find_comfyui(os.environ, root, Path.home(), Path(sys.executable))
    except NoComfyUIError as reason:
        pytest.skip(str(reason))

"""What every test starts from: the package under its fixed name, and no settings in the environment.

The tests import `luna_collection.…`. The checkout itself must not be on sys.path, where its `utils` and
`nodes` would hide ComfyUI's; so pytest runs in importlib mode and the launcher's loader is used here too.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MARKED_FOLDERS = {"comfyui", "end_to_end", "gpu", "page", "soak"}


def _load_package() -> None:
    file = ROOT / "luna_daemon" / "package_alias.py"
    spec = importlib.util.spec_from_file_location("luna_package_alias", file)
    assert spec is not None
    assert spec.loader is not None
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    alias.load_package()


def _forget_settings() -> None:
    for name in [name for name in os.environ if name.startswith("LUNA_")]:
        del os.environ[name]


_load_package()
_forget_settings()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that none can be forgotten."""
    for item in items:
        folders = item.path.relative_to(ROOT / "tests").parts[:-1]
        for marker in MARKED_FOLDERS.intersection(folders):
            item.add_marker(marker)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the checkout."""
    return ROOT

"""Load this checkout as the package `luna_collection`, whatever its folder is called.

Three facts make this necessary. The folder's name has hyphens, so Python cannot import it by name.
ComfyUI owns the top-level names `utils`, `nodes`, `server` and `protocol`; a script in this folder, or
one started from the checkout, would put ours in front of them on `sys.path`. And a spawned worker process
can only find what has the same importable name in parent and child.

So whoever starts outside of ComfyUI (the launcher, the tests) takes the checkout off `sys.path` and
loads it under one fixed name. Standard library only; loaded by file, since nothing of ours is
importable before.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = "luna_collection"
ROOT = Path(__file__).resolve().parent.parent


def load_package() -> ModuleType:
    """Return this checkout's package, loaded under its fixed name.

    Raises:
        ImportError: Another checkout has been loaded under that name in this process.
    """
    _clean_search_path()
    loaded = sys.modules.get(PACKAGE)
    if loaded is None:
        return _load()
    if Path(loaded.__file__ or "").resolve() != ROOT / "__init__.py":
        raise ImportError(
            f"'{PACKAGE}' is already loaded, from {loaded.__file__}, not from {ROOT}."
        )
    return loaded


def _clean_search_path() -> None:
    hidden = {ROOT, ROOT / "luna_daemon"}
    # An empty entry means the current folder, and so does Path("").
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() not in hidden]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        PACKAGE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT} cannot be loaded as a package.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    return module

"""Start the daemon: `python luna_daemon/daemon_server.py [--help]`.

Only a launcher. The package is loaded when this file is imported, not only when it is run as a script:
a spawned worker process imports it first, and then finds its own code by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path


def _load_package() -> str:
    file = Path(__file__).resolve().with_name("package_alias.py")
    spec = importlib.util.spec_from_file_location("luna_package_alias", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded.")
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    package: str = alias.load_package().__name__
    return package


PACKAGE = _load_package()

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{PACKAGE}.luna_daemon.main").main(sys.argv[1:]))

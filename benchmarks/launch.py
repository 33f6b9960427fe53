"""Runs a module of this folder with the checkout loaded as the package `luna_collection`.

`python benchmarks/launch.py daemon_area.echo_server ARGUMENTS` is how a benchmark starts the processes
that it needs beside its own. Standard library only, since nothing of ours is importable before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def start(module: str, arguments: Sequence[str]) -> int:
    """Call `main(arguments)` of a module of this folder; return its exit code."""
    # Python puts a script's folder on the search path; our short names must not hide anybody's.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]
    package = _load_package()
    code: int = importlib.import_module(f"{package}.benchmarks.{module}").main(arguments)
    return code


def _load_package() -> str:
    file = HERE.parent / "luna_daemon" / "package_alias.py"
    spec = importlib.util.spec_from_file_location("luna_package_alias", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded.")
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    name: str = alias.load_package().__name__
    return name


if __name__ == "__main__":
    sys.exit(start(sys.argv[1], sys.argv[2:]))

"""Converts in a process of its own; run by test_processes.py.

It prints a line for each finished tensor, and at the end what came of it, as JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--note-always", action="store_true")
    parser.add_argument("--fill", type=int, default=0, help="fill the disk after so many tensors")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).parent]
    _load_package()
    from luna_collection.utils.conversion import streaming
    from luna_collection.utils.conversion.converting import converted_once
    from luna_collection.utils.errors import LunaError

    if options.note_always:
        streaming.NOTE_SECONDS = -1.0
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    seen = 0

    def show(progress: Any) -> None:
        nonlocal seen
        seen += 1
        sys.stdout.write(f"{progress.doing}\n")
        sys.stdout.flush()
        if options.fill and seen == options.fill:
            _fill_disk(options.folder)

    peak = _Peak() if options.memory else None
    try:
        made = converted_once(
            options.source,
            options.target,
            options.folder,
            streaming.Run(show, lambda: bool(stopped)),
        )
    except LunaError as error:
        sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        return 1
    result = {"path": str(made.path), "made": made.made, "peak": peak.stop() if peak else 0}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _load_package() -> None:
    file = ROOT / "luna_daemon" / "package_alias.py"
    spec = importlib.util.spec_from_file_location("luna_package_alias", file)
    assert spec is not None
    assert spec.loader is not None
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    alias.load_package()


def _fill_disk(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


class _Peak:
    """Watches how much memory of its own this process has more than at the beginning, in bytes."""

    def __init__(self) -> None:
        self._begin = self._peak = _anonymous()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self._peak = max(self._peak, _anonymous())

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak - self._begin


def _anonymous() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

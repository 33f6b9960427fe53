"""Where things are in a checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"

# The lock and the log of the set-up stay outside .venv, which the set-up may have to make anew.
STATE = ROOT / ".luna"

DAEMON = ROOT / "luna_daemon" / "daemon_server.py"
BENCHMARKS = ROOT / "benchmarks" / "run.py"
PACKS = ROOT / "benchmarks" / "packs.py"
WILDCARDS = ROOT / "scripts" / "wildcards.py"
WEIGHTS = ROOT / "scripts" / "weights.py"
TESTS = ROOT / "tests"


def venv_python(venv: Path) -> Path:
    """Return where a virtual environment has its interpreter on this platform."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

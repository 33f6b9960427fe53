"""A command as a person can paste it into this system's terminal."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable


def command_text(*arguments: object) -> str:
    """Return a command line, with quotes where a path or an option needs them."""
    words: Iterable[str] = map(str, arguments)
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)

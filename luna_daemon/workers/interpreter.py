"""Whether another Python, such as ComfyUI's, can run a worker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from ..errors import WorkerDiedError

# What a worker needs beside what every engine's environment has.
PACKAGES = ("msgspec",)
_QUESTION = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""
_TIMEOUT_S = 60
_able: set[Path] = set()


async def check_python(python: Path) -> None:
    """Return when the interpreter has all that a worker needs. Asked once; what is able stays so.

    Raises:
        WorkerDiedError: It does not start, or lacks a package.
    """
    if python in _able or python == Path(sys.executable):
        return
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [str(python), "-c", _QUESTION, *PACKAGES],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise WorkerDiedError(
            f"ComfyUI's Python, {python}, does not start: {error}.",
            "Correct the setting comfyui_python.",
        ) from error
    if done.stdout.strip():
        raise WorkerDiedError(
            f"ComfyUI's Python, {python}, lacks {done.stdout.strip()}, which the daemon's workers need.",
            f'Install it there: "{python}" -m pip install {done.stdout.strip()}',
        )
    _able.add(python)

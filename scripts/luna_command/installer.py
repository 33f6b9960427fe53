"""Quiet runs of pip and uv, with a log, and a sentence about what went wrong."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .console import CommandError

TAIL_LINES = 8

# What pip prints → what a person can do about it. The first match counts.
ADVICE = (
    ("No space left on device", "The disk is full. Free some room"),
    ("not enough space", "The disk is full. Free some room"),
    ("Permission denied", "Make the folder writable for you"),
    ("PermissionError", "Close programs that use .venv and make the folder writable for you"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "Check the certificate settings of pip (pip config set global.cert)",
    ),
    ("ProxyError", "Check the proxy settings (HTTPS_PROXY)"),
    ("NewConnectionError", "Check the network connection"),
    ("ConnectTimeoutError", "Check the network connection"),
    ("Read timed out", "Check the network connection"),
    ("ConnectionResetError", "Check the network connection"),
    (
        "No matching distribution",
        "Check the network connection; if that is fine, the package has no build for this Python",
    ),
)
DEFAULT_ADVICE = "Read the log"


def advice_for(output: str) -> str:
    """Return what to do about a failed run of pip, from what it printed."""
    for symptom, advice in ADVICE:
        if symptom in output:
            return advice
    return DEFAULT_ADVICE


class Installer:
    """Runs install commands for one environment and keeps their output in one log file."""

    def __init__(self, python: Path, log: Path, folder: Path, lock_descriptor: int) -> None:
        self.python = python
        self.log = log
        self._folder = folder
        # On Windows descriptors cannot be handed down this way; the lock then ends with luna.py.
        self._kept_open = () if os.name == "nt" else (lock_descriptor,)
        self._last_run_start = 0
        log.write_bytes(b"")

    def attempt(self, module: str, *arguments: str) -> bool:
        """Run `python -m module arguments` and tell whether it worked."""
        command = [str(self.python), "-m", module, *arguments]
        self._last_run_start = self.log.stat().st_size
        with self.log.open("ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                pass_fds=self._kept_open,
                check=False,
            )
        return done.returncode == 0

    def require(self, what: str, module: str, *arguments: str) -> None:
        """Run a command that must work.

        Raises:
            CommandError: It did not; the text has the end of its output and what to do.
        """
        if not self.attempt(module, *arguments):
            raise CommandError(self.failure(what))

    def failure(self, what: str) -> str:
        """Return the text about the last run, which did not manage to do `what`."""
        lines = self._last_output().splitlines()[1:]
        tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:] if line.strip())
        advice = advice_for("\n".join(lines))
        return (
            f"Could not {what}. The last lines of the log:\n{tail}\n"
            f"{advice}, then run the command again. The whole log: {self.log}"
        )

    def _last_output(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._last_run_start)
            return log.read().decode("utf-8", "replace").strip()


def run_quietly(command: Sequence[str], timeout_s: float = 120) -> str | None:
    """Return what a command printed, or None when it cannot be started or fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

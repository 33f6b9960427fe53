"""Processes that a benchmark starts beside its own: each runs a module of an area's folder."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AREA = "daemon_area"
LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"


@contextmanager
def connected_child(
    module: str, *arguments: str, env: Mapping[str, str] | None = None, fds: Sequence[int] = ()
) -> Iterator[tuple[socket.socket, int]]:
    """Run a module whose last argument is its end of a socket pair; give our end and its pid.

    The child is expected to end when our end is closed.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            descriptors = [theirs.fileno(), *fds]
            process = subprocess.Popen(
                command_of(module, *arguments, str(theirs.fileno())), pass_fds=descriptors, env=env
            )
        try:
            yield ours, process.pid
        finally:
            ours.close()
            _end(process)


class Teller:
    """A child that is told things, and tells things, in JSON lines.

    Args:
        module: What it runs.
        arguments: Its command line.
        area: The folder that the module is in.
        python: The interpreter; default: the one that runs this.
    """

    def __init__(
        self, module: str, *arguments: str, area: str = AREA, python: str = sys.executable
    ) -> None:
        self._process = subprocess.Popen(
            command_of(module, *arguments, area=area, python=python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, **event: Any) -> None:
        """Tell it something."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for what it tells.

        Raises:
            RuntimeError: It has ended; its own words are on the screen.
        """
        assert self._process.stdout is not None, "it is a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("A process of this benchmark has ended; its words are above.")
        event: dict[str, Any] = json.loads(line)
        return event

    def kill(self) -> None:
        """End it at once; whoever waits for its words finds that it has ended."""
        self._process.kill()

    def end(self) -> None:
        """Let it end."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        _end(self._process)


def command_of(
    module: str, *arguments: str, area: str = AREA, python: str = sys.executable
) -> list[str]:
    """Return the command that runs a module of an area."""
    return [python, str(LAUNCHER), f"{area}.{module}", *arguments]


def _end(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""A daemon of a benchmark's own, in a folder of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.config import DaemonConfig
from ...luna_daemon.config_sources import resolve
from ...luna_daemon.errors import DaemonUnreachableError

LAUNCHER = Path(__file__).resolve().parents[2] / "luna_daemon" / "daemon_server.py"
START_TIMEOUT_S = 60.0
POLL_S = 0.005
_numbers = itertools.count(1)


class PrivateDaemon:
    """A daemon process on the CPU; use it in a `with` block.

    Args:
        folder: Where its folder goes.
        settings: Any of the daemon's settings.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.runtime_dir = folder / f"d{next(_numbers)}"
        self.config = config_for(self.runtime_dir)
        self.started_in_s = 0.0
        self._flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateDaemon:
        command = [sys.executable, str(LAUNCHER), "--port=0", f"--runtime-dir={self.runtime_dir}"]
        command += ["--device=cpu", "--engine=hf", *self._flags]
        started = time.monotonic()
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            self._wait_until_ready(started + START_TIMEOUT_S)
        except BaseException:
            self._end()
            raise
        self.started_in_s = time.monotonic() - started
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        assert self._process is not None, "it has been started"
        return self._process.pid

    def pids(self) -> list[int]:
        """The supervisor and its workers, as they are now."""
        return [self.pid, *(child.pid for child in psutil.Process(self.pid).children())]

    def rss_bytes(self) -> int:
        """Return the resident memory of supervisor and workers."""
        return sum(int(psutil.Process(pid).memory_info().rss) for pid in self.pids())

    def client(self) -> DaemonClient:
        """Return a client; close it, or use it in a `with` block."""
        return DaemonClient(config=self.config)

    def _end(self) -> None:
        assert self._process is not None, "it has been started"
        self._process.terminate()
        try:
            self._process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self, deadline: float) -> None:
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except DaemonUnreachableError:
                assert self._process is not None, "it has been started"
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._process.kill()
                    raise RuntimeError(
                        f"The daemon did not start:\n{_log_of(self.runtime_dir)}"
                    ) from None
                time.sleep(POLL_S)


def config_for(runtime_dir: Path) -> DaemonConfig:
    """Return the settings of a client of the daemon in that folder."""
    return resolve({"runtime_dir": runtime_dir, "port": 0}).config


def register_sd15(clients: Sequence[DaemonClient], workflow: str, encoder: Path) -> None:
    """Let clients use a text encoder in a workflow each; their names begin alike."""
    for number, client in enumerate(clients):
        client.get_model_proxies(f"{workflow}-{number}", "SD1.5", {"clip_l": encoder})


def _log_of(runtime_dir: Path) -> str:
    logs = sorted(runtime_dir.glob("*.log"))
    return logs[0].read_text("utf-8") if logs else "(it has written no log)"

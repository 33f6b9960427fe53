"""The daemon of the soak, which is killed and started again in the same place."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.config import DaemonConfig
from ...luna_daemon.config_sources import resolve
from ...luna_daemon.errors import DaemonError
from ...luna_daemon.instance_lock import read_record
from .cases import FAMILIES, Case, all_cases

LAUNCHER = Path(__file__).resolve().parents[2] / "luna_daemon" / "daemon_server.py"
HEARTBEAT_S = 8.0
START_S = 60.0
ORPHAN_S = 60.0  # a worker that is only importing its libraries notices the end of its daemon late
PROBE_S = 90.0
SETTINGS = {
    "heartbeat_timeout_s": HEARTBEAT_S,
    "lease_grace_s": 2,
    "handshake_timeout_s": 5,
    "conditioning_cache_mb": 1,
    "answer_cache_mb": 1,
    "arena_mb": 8,
    "device": "cpu",
}


class SoakDaemon:
    """A daemon process in a folder of its own."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.runtime_dir = folder / "d"
        self.log = folder / "daemon.log"
        self.config: DaemonConfig = resolve(
            {"runtime_dir": self.runtime_dir, "port": 0, "request_timeout_s": PROBE_S}
        ).config
        self.pids: list[int] = []  # of all supervisors that there were
        self._command = [
            *(sys.executable, str(LAUNCHER), "--port=0", f"--runtime-dir={self.runtime_dir}"),
            f"--model-roots={models}",
            "--engine=hf",
            *(f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        """The supervisor that runs now."""
        return psutil.Process(self.pids[-1])

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: It does not.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self.pids.append(self._process.pid)
        deadline = time.monotonic() + START_S
        while True:
            try:
                with DaemonClient(config=self.config) as client:
                    client.ping()
                return
            except DaemonError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The daemon did not start: see {self.log}") from None
                time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The worker processes, also those that are only starting."""
        found = []
        for child in self.process.children():
            try:
                if "worker" in child.cmdline():
                    found.append(child)
            except psutil.Error:  # it has just ended
                continue
        return found

    def kill(self) -> list[psutil.Process]:
        """Kill the supervisor alone; return the processes that have outlived it for too long."""
        assert self._process is not None, "it has been started"
        family = self.process.children(recursive=True)
        self._process.kill()
        self._process.wait()
        for member in family:  # what was stopped cannot notice that it is to end
            try:
                member.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
        return psutil.wait_procs(family, timeout=ORPHAN_S)[1]

    def stop(self) -> tuple[int, list[psutil.Process]]:
        """End it as a person would; return its exit code and the processes that outlived it."""
        assert self._process is not None, "it has been started"
        family = self.process.children(recursive=True)
        with DaemonClient(config=self.config) as client:
            client.stop_daemon()
        try:
            code = self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return code, psutil.wait_procs(family, timeout=5)[1]

    def end(self) -> None:
        """End it in any case."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def probe(self) -> None:
        """Have one good request of each kind served, over the unix socket and over TCP.

        Raises:
            DaemonError: It is not served.
        """
        self._probe_with(self.config)
        record = read_record(self.runtime_dir / "daemon-0.json")
        if record is not None:
            nowhere = self.runtime_dir / "none"
            self._probe_with(
                dataclasses.replace(self.config, port=record.port, socket_path=nowhere)
            )

    def _probe_with(self, config: DaemonConfig) -> None:
        with DaemonClient(config=config, on_note=lambda note: None) as client:
            for family, models in FAMILIES.items():
                client.get_model_proxies(f"probe {family}", family, dict(models))
            for case in _one_of_each():
                case.call(client, f"probe {case.family}", None)


def _one_of_each() -> list[Case]:
    first = {(case.family, type(case.work)): case for case in reversed(all_cases())}
    return list(first.values())

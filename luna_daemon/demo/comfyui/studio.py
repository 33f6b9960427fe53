"""The servers of one part of the demonstration and their daemon: started, watched, measured and ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from ...client import DaemonClient
from ...config_sources import resolve
from ...errors import InternalError
from ...instance_lock import read_record
from ..interrupts import held_back
from ..processes import family_of, memory_of
from .server import RUN_TIMEOUT_S, ComfyServer, Installation

STOP_TIMEOUT_S = 20.0
_POLL_S = 0.1
Prompt = dict[str, Any]


class Studio:
    """Some ComfyUI servers with the same base folder, and what belongs to them.

    Args:
        comfyui: Which ComfyUI.
        base: Their base folder; it has their models and the pack.
        count: How many servers.
        options: Further command-line options of theirs.
    """

    def __init__(
        self, comfyui: Installation, base: Path, count: int, options: Sequence[str] = ()
    ) -> None:
        self.servers: list[ComfyServer] = []
        self._comfyui = comfyui
        self._base = base
        self._count = count
        self._options = tuple(options)
        self._run_folder = base / "run"
        self._environ = {"LUNA_RUNTIME_DIR": str(self._run_folder), "LUNA_PORT": "0"}

    def open(self) -> None:
        """Start the servers and return when all answer; after a failure none is left."""
        try:
            with held_back():
                for number in range(self._count):
                    self.servers.append(self._start(self._base / f"server-{number + 1}"))
            for server in self.servers:
                server.wait_until_ready()
        except (
            BaseException
        ):  # boundary: also when interrupted, no server may live on; raised again
            self.close()
            raise

    def _start(self, own: Path) -> ComfyServer:
        own.mkdir(exist_ok=True)
        # Servers with one base folder still need a database and passing files of their own.
        folders = ["--user-directory", str(own), "--temp-directory", str(own)]
        options = [*folders, *self._options]
        return ComfyServer(self._comfyui, self._base, self._environ, options, wait=False)

    def __enter__(self) -> Studio:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def draw(
        self, jobs: Sequence[Mapping[str, Prompt]], done: Callable[[int], None]
    ) -> list[dict[str, bytes]]:
        """Queue each server's workflows on it, all at once, and return its images by name.

        Args:
            jobs: For each server, name → workflow.
            done: Told the number of the server whenever one of its images is there.

        Raises:
            RunFailedError: A workflow was refused, or a node raised.
            InternalError: A server has ended, or nothing comes for too long.
        """
        images: list[dict[str, bytes]] = [{} for _ in self.servers]
        waiting = [
            (number, name, self.servers[number].queue(prompt))
            for number, prompts in enumerate(jobs)
            for name, prompt in prompts.items()
        ]
        last = time.monotonic()
        while waiting:
            still = []
            for number, name, prompt_id in waiting:
                server = self.servers[number]
                outputs = server.outputs(prompt_id)
                if outputs is None:
                    still.append((number, name, prompt_id))
                    continue
                images[number][name] = server.saved(outputs)
                last = time.monotonic()
                done(number)
            waiting = still
            if waiting:
                self._check_progress(self.servers[waiting[0][0]], last)
                time.sleep(_POLL_S)
        return images

    def memory(self) -> dict[str, int]:
        """Return the memory of the servers and, if there is one, of the daemon with its workers.

        Memory that processes share counts once: each has its part of it.
        """
        daemon = self._daemon()
        theirs = set(family_of([daemon.pid])) if daemon else set()
        figures = {}
        for number, server in enumerate(self.servers, 1):
            family = set(family_of([server.process.pid])) - theirs
            figures[f"server {number}"] = sum(memory_of(pid) for pid in family)
        if theirs:
            figures["daemon and workers"] = sum(memory_of(pid) for pid in theirs)
        return figures

    def status(self) -> dict[str, Any]:
        """Return the daemon's status."""
        config = resolve({"runtime_dir": self._run_folder, "port": 0}).config
        with DaemonClient(config=config) as client:
            return client.status()

    def close(self) -> None:
        """End the servers, the daemon that they have started, and everything of these."""
        daemon = self._daemon()
        servers = _living([server.process.pid for server in self.servers])
        daemons = _living([daemon.pid] if daemon else [])
        # The workers end with their daemon, which gives their shared memory back.
        workers = {process for process in daemons if process != daemon}
        family = {*servers, *daemons}
        for process in family - workers:
            _quietly(process.terminate)
        _, alive = psutil.wait_procs(list(family), timeout=STOP_TIMEOUT_S)
        for process in alive:
            _quietly(process.kill)
        psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
        for server in self.servers:
            server.process.wait()
        self.servers.clear()

    def _daemon(self) -> psutil.Process | None:
        record = read_record(self._run_folder / "daemon-0.json")
        return psutil.Process(record.pid) if record is not None and record.is_alive else None

    def _check_progress(self, server: ComfyServer, last: float) -> None:
        if server.process.poll() is not None:
            raise InternalError(f"ComfyUI has ended:\n{server.tail()}")
        if time.monotonic() - last > RUN_TIMEOUT_S:
            raise InternalError(
                f"ComfyUI has drawn nothing for {RUN_TIMEOUT_S} s:\n{server.tail()}"
            )


def _living(pids: Sequence[int]) -> list[psutil.Process]:
    """Return processes and everything that they have started, as far as they still run."""
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def _quietly(end: Callable[[], None]) -> None:
    """End a process, if it has not ended by itself meanwhile."""
    try:
        end()
    except psutil.NoSuchProcess:
        return

"""Starting and watching the processes of the demonstration, and measuring their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..client import DaemonClient
from ..config_sources import resolve
from ..errors import DaemonUnreachableError, InternalError
from .plan import WorkflowPlan, write_plan

LAUNCHER = Path(__file__).resolve().parent.parent / "daemon_server.py"
DAEMON_START_TIMEOUT_S = 60.0


@dataclass(slots=True)
class ClientRun:
    """A workflow's process and what it has told."""

    plan: WorkflowPlan
    process: subprocess.Popen[str]
    result_path: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def outcome(self) -> dict[str, Any] | None:
        """Its last event, once it is done."""
        return next((event for event in self.events if event.get("state") == "finished"), None)


@dataclass(frozen=True, slots=True)
class Phase:
    """What three concurrent workflows gave.

    Attributes:
        results: Workflow → file with its tensors.
        outcomes: Workflow → what its process told at the end.
        memory_bytes: All processes together, at the end, while all still held their models.
    """

    results: dict[str, Path]
    outcomes: dict[str, dict[str, Any]]
    memory_bytes: int


def run_clients(
    title: str,
    plans: Sequence[WorkflowPlan],
    folder: Path,
    options: Sequence[str],
    others: Sequence[int] = (),
) -> Phase:
    """Run all workflows at once, showing their progress.

    Args:
        title: Shown above the progress bars.
        plans: What to run.
        folder: Where plans and results are written.
        options: Passed to every process.
        others: Processes (with their children) whose memory counts too: the daemon.

    Raises:
        InternalError: A workflow failed; its own words are on the screen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [_start(plan, folder, options) for plan in plans]
    try:
        _watch(title, runs)
        memory = sum(
            memory_of(pid) for pid in [run.process.pid for run in runs] + family_of(others)
        )
    finally:
        for run in runs:
            _end(run)
    outcomes = {run.plan.name: run.outcome or {} for run in runs}
    return Phase({run.plan.name: run.result_path for run in runs}, outcomes, memory)


class DemoDaemon:
    """A daemon of the demonstration's own, in its folder, so that a running one is not disturbed."""

    def __init__(self, folder: Path, model_roots: Sequence[Path], device: str) -> None:
        self.runtime_dir = folder
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(LAUNCHER), "--port", "0", "--runtime-dir", str(folder)),
                *("--device", device, "--log-level", "info", "--engine", "hf"),
                *("--model-roots", os.pathsep.join(str(root) for root in model_roots)),
            ],
            stderr=subprocess.DEVNULL,
        )
        self.config = resolve({"runtime_dir": folder, "port": 0}).config

    def __enter__(self) -> DemoDaemon:
        deadline = time.monotonic() + DAEMON_START_TIMEOUT_S
        while True:
            try:
                with DaemonClient(config=self.config) as client:
                    client.ping()
                return self
            except DaemonUnreachableError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    raise InternalError(
                        "The daemon did not start.",
                        f"Its log is {self.runtime_dir / 'daemon-0.log'}.",
                    ) from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any]:
        """Return the daemon's status."""
        with DaemonClient(config=self.config) as client:
            return client.status()


def _start(plan: WorkflowPlan, folder: Path, options: Sequence[str]) -> ClientRun:
    plan_path, result_path = folder / f"{plan.name}.json", folder / f"{plan.name}.safetensors"
    write_plan(plan, plan_path)
    process = subprocess.Popen(
        [
            sys.executable,
            str(LAUNCHER),
            "demo",
            "client",
            str(plan_path),
            str(result_path),
            *options,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ClientRun(plan, process, result_path)


def _watch(title: str, runs: Sequence[ClientRun]) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        progress.print(title)
        readers = []
        for run in runs:
            bar = progress.add_task(f"{run.plan.name:<9} starting", total=run.plan.calls)
            reader = threading.Thread(target=_read, args=(run, progress, bar), daemon=True)
            reader.start()
            readers.append(reader)
        for reader in readers:
            reader.join()
    failed = [run.plan.name for run in runs if run.outcome is None]
    if failed:
        raise InternalError(
            f"The workflow '{failed[0]}' of the demonstration failed; its words are above."
        )


def _read(run: ClientRun, progress: Progress, bar: Any) -> None:
    """Follow one process until it is done or has ended."""
    assert run.process.stdout is not None, "its output is a pipe"
    for line in run.process.stdout:
        event = json.loads(line)
        run.events.append(event)
        if "done" in event:
            progress.update(bar, completed=event["done"])
        else:
            progress.update(bar, description=f"{run.plan.name:<9} {event['state']}")
            if event["state"] == "finished":
                return


def _end(run: ClientRun) -> None:
    if run.process.stdin is not None:
        run.process.stdin.close()
    try:
        run.process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        run.process.kill()
        run.process.wait()
    if run.process.stdout is not None:
        run.process.stdout.close()


def family_of(pids: Sequence[int]) -> list[int]:
    """Return processes and everything that they have started."""
    return [
        member.pid
        for pid in pids
        for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]


def memory_of(pid: int) -> int:
    """Return a process's share of memory in bytes: PSS where there is such a thing, else what it alone holds."""
    info = psutil.Process(pid).memory_full_info()
    return int(getattr(info, "pss", info.uss))

"""What the daemon holds at this moment, as samples for the exposition."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import psutil

from ..scheduler.residency import DEVICE
from ..supervisor import Supervisor
from ..version import PACKAGE_VERSION
from ..workers.pool import DeviceWorkers
from .metrics import Sample


def gauges(daemon: Supervisor) -> Iterator[Sample]:
    """Return a sample of every gauge."""
    about = (PACKAGE_VERSION, daemon.engine, daemon.config.service_type)
    yield Sample("build_info", about, 1)
    yield Sample("start_time_seconds", (), daemon.started_at)
    yield Sample("rss_bytes", (), rss_bytes(os.getpid()))
    yield Sample("sessions", (), len(daemon.sessions))
    yield Sample("leases", (), len(daemon.registry.leases()))
    yield Sample("answer_cache_bytes", (), daemon.answers.nbytes)
    for device, workers in daemon.pool.devices.items():
        yield from _device(device, workers)


def _device(device: str, workers: DeviceWorkers) -> Iterator[Sample]:
    processes = [runner.process for runner in workers.runners if runner.process is not None]
    yield Sample("pending", (device,), len(workers.queue))
    yield Sample("budget_bytes", (device,), workers.settings.memory.budget.device_bytes)
    yield Sample("weight_bytes", (device,), workers.memory.weight_bytes)
    yield Sample("reserved_bytes", (device,), workers.memory.reserved_bytes)
    yield Sample("asleep_bytes", (device,), workers.memory.asleep_bytes)
    yield Sample("workers", (device,), len(processes))
    yield Sample("worker_rss_bytes", (device,), sum(rss_bytes(p.pid) for p in processes))
    by_role: Counter[str] = Counter()
    for runner in workers.runners:
        for model in runner.residency.models():
            if model.place == DEVICE:
                by_role[model.spec.kind or model.spec.role] += model.nbytes
    for role, nbytes in by_role.items():
        yield Sample("model_bytes", (role, device), nbytes)


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0

"""What the daemon holds at this moment, as samples for the exposition."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import psutil

from .metrics import Sample
from .supervisor import Supervisor
from .version import PACKAGE_VERSION
from .workers.pool import DeviceWorkers


def gauges(daemon: Supervisor) -> Iterator[Sample]:
    """Return a sample of every gauge."""
    about = (PACKAGE_VERSION, daemon.engine, daemon.config.service_type)
    yield Sample("build_info", about, 1)
    yield Sample("start_time_seconds", (), daemon.started_at)
    yield Sample("rss_bytes", (), rss_bytes(os.getpid()))
    yield Sample("sessions", (), len(daemon.sessions))
    yield Sample("leases", (), len(daemon.registry.leases()))
    for device, workers in daemon.pool.devices.items():
        yield from _device(device, workers)


def _device(device: str, workers: DeviceWorkers) -> Iterator[Sample]:
    processes = [runner.process for runner in workers.runners if runner.process is not None]
    yield Sample("pending", (device,), len(workers.queue))
    yield Sample("budget_bytes", (device,), workers.settings.budget_bytes)
    yield Sample("reserved_bytes", (device,), reserved_bytes(workers))
    yield Sample("workers", (device,), len(processes))
    yield Sample("worker_rss_bytes", (device,), sum(rss_bytes(p.pid) for p in processes))
    by_role: Counter[str] = Counter()
    for runner in workers.runners:
        for model in runner.residency.models():
            by_role[model.spec.role] += model.nbytes
    for role, nbytes in by_role.items():
        yield Sample("model_bytes", (role, device), nbytes)


def reserved_bytes(workers: DeviceWorkers) -> int:
    """Return how much of a device's budget is taken."""
    return workers.settings.budget_bytes - workers.room_bytes


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0

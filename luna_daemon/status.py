"""A snapshot of the daemon, as plain data for the command line, the status node and scripts."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import psutil

from .errors import WorkerDiedError
from .protocol.worker_messages import CacheState, GetCacheState
from .supervisor import Supervisor
from .version import PACKAGE_VERSION
from .workers.pool import DeviceWorkers
from .workers.runner import WorkerRunner

CACHE_QUESTION_TIMEOUT_S = 2.0


async def snapshot(daemon: Supervisor) -> dict[str, Any]:
    """Return everything that a person may want to know, JSON-ready. Sizes in bytes, times in seconds."""
    devices = {
        name: await _device(workers, daemon) for name, workers in daemon.pool.devices.items()
    }
    return {
        "version": PACKAGE_VERSION,
        "boot_id": daemon.boot_id,
        "pid": os.getpid(),
        "rss_bytes": psutil.Process().memory_info().rss,
        "uptime_s": round(time.time() - daemon.started_at, 1),
        "state": "draining" if daemon.draining else "running",
        "service_type": daemon.config.service_type,
        "engine": daemon.engine,
        "devices": devices,
        "workflows": _workflows(daemon),
        "sessions": [
            {
                "session": session.number,
                "pid": session.pid,
                "transport": session.tier,
                "requests": len(session.requests),
            }
            for session in daemon.sessions.values()
        ],
        "counters": daemon.metrics.counters(),
        "durations": daemon.metrics.durations(),
    }


def _workflows(daemon: Supervisor) -> list[dict[str, Any]]:
    return [
        {
            "workflow_id": lease.workflow_id,
            "session": lease.session,
            "model_type": lease.model_type,
            "models": {role: spec.key for role, spec in lease.models.items()},
            "lost": lease.ends_at is not None,
        }
        for lease in daemon.registry.leases()
    ]


async def _device(workers: DeviceWorkers, daemon: Supervisor) -> dict[str, Any]:
    return {
        "budget_bytes": workers.settings.budget_bytes,
        "waiting": len(workers.queue),
        "workers": [await _worker(runner, daemon) for runner in workers.runners],
    }


async def _worker(runner: WorkerRunner, daemon: Supervisor) -> dict[str, Any]:
    process = runner.process
    return {
        "name": runner.name,
        "pid": process.pid if process else None,
        "state": "busy" if runner.busy else ("idle" if process else "not started"),
        "deaths": runner.crashes.total,
        "rss_bytes": _rss(process.pid) if process else 0,
        "torch": process.versions.torch if process and process.versions else "",
        "models": [
            {
                "key": model.spec.key,
                "role": model.spec.role,
                "name": "/".join(model.spec.path.replace("\\", "/").split("/")[-2:]),
                "precision": model.spec.precision,
                "nbytes": model.nbytes,
                "workflows": daemon.registry.users(model.spec.key),
            }
            for model in runner.residency.models()
        ],
        "conditioning_cache": await _cache(runner),
    }


async def _cache(runner: WorkerRunner) -> dict[str, int] | None:
    """Ask the worker for its cache; None when there is no worker that can say."""
    process = runner.process
    if process is None or process.dead.done():
        return None
    try:
        reply = await asyncio.wait_for(
            process.request(GetCacheState(id=process.next_id())), CACHE_QUESTION_TIMEOUT_S
        )
    except (WorkerDiedError, asyncio.TimeoutError):
        return None
    state = reply.message
    if not isinstance(state, CacheState):
        return None
    return {
        "entries": state.entries,
        "nbytes": state.nbytes,
        "hits": state.hits,
        "misses": state.misses,
    }


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0

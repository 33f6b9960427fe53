"""A snapshot of the daemon, as plain data for the command line, the status node and scripts.

Sizes are in bytes, times in seconds unless the name ends in `_ms`. Prompts and paths are not in it.

```
version, boot_id, pid, service_type, engine
numerics                settings of ComfyUI that the comfy engine runs with
state                   running | draining
uptime_s, rss_bytes     of the daemon's own process
requests                model calls since the start
  finished, failed      answered with a result; with a failure
  cancelled             requests of any kind that were given up
  waiting               in all queues now
  cache_hit_rate        of text requests, 0..1; null before the first
  demotions             sessions that gave up shared memory
answer_cache            answers that the daemon gives again without a worker
  entries, nbytes, hits
devices.<device>
  budget_bytes          what models may take
  weight_bytes          what of it weights take now
  activation_bytes      what the largest request so far takes beside them, estimated
  reserved_bytes        both together: what other programs on the device should leave free
  asleep_bytes          RAM that models take which had to leave this GPU
  waiting               requests in the queue
  queue_wait            count, p50_ms, p99_ms from queue to worker; null before the first
  workers[]
    name, pid, rss_bytes, torch, comfyui     pid null: no process; comfyui "": another engine
    state               busy | idle | not started
    deaths, last_death  how often one has died, and why the last time ("" : never)
    models[]            key, role, name, precision, nbytes, place (device | ram), workflows that hold it
    conditioning_cache  entries, nbytes, hits, misses, and for the comfy engine the patch_sets that it
                        knows and their patch_bytes; null when the worker cannot say
workflows[]             workflow_id, session, model_type, models (role → key), lost (its connection is)
sessions[]              session, pid, transport (memfd | named | inline), requests under way
counters, durations     every counter, and count, p50_ms, p99_ms of every duration; the names are those
                        of docs/monitoring.md without `luna_` and without `_total` or `_seconds`
```
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ..errors import WorkerDiedError
from ..protocol.worker_messages import CacheState, GetCacheState
from ..supervisor import Supervisor
from ..version import PACKAGE_VERSION
from ..workers.pool import DeviceWorkers
from ..workers.runner import WorkerRunner
from .gauges import rss_bytes
from .metrics import Metrics
from .request_record import MODEL_CALLS

CACHE_QUESTION_TIMEOUT_S = 2.0


async def snapshot(daemon: Supervisor) -> dict[str, Any]:
    """Return everything that a person may want to know, JSON-ready."""
    devices = {
        name: await _device(workers, daemon) for name, workers in daemon.pool.devices.items()
    }
    return {
        "version": PACKAGE_VERSION,
        "boot_id": daemon.boot_id,
        "pid": os.getpid(),
        "rss_bytes": rss_bytes(os.getpid()),
        "uptime_s": round(daemon.uptime_s, 1),
        "state": "draining" if daemon.draining else "running",
        "service_type": daemon.config.service_type,
        "engine": daemon.engine,
        "numerics": daemon.numerics.current,
        "requests": {
            **_requests(daemon.metrics),
            "waiting": sum(device["waiting"] for device in devices.values()),
        },
        "answer_cache": {
            "entries": len(daemon.answers),
            "nbytes": daemon.answers.nbytes,
            "hits": daemon.metrics.total("answer_cache_hit"),
        },
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


def _requests(metrics: Metrics) -> dict[str, Any]:
    hits = metrics.total("conditioning_cache_hit")
    looked_up = hits + metrics.total("conditioning_cache_miss")
    return {
        "finished": sum(metrics.total("request_success", operation=op) for op in MODEL_CALLS),
        "failed": sum(metrics.total("request_failure", operation=op) for op in MODEL_CALLS),
        "cancelled": metrics.total("cancelled"),
        "cache_hit_rate": round(hits / looked_up, 4) if looked_up else None,
        "demotions": metrics.total("transport_demotions"),
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
    device = workers.settings.device
    return {
        "budget_bytes": workers.settings.memory.budget.device_bytes,
        "weight_bytes": workers.memory.weight_bytes,
        "activation_bytes": workers.memory.activation_bytes,
        "reserved_bytes": workers.memory.reserved_bytes,
        "asleep_bytes": workers.memory.asleep_bytes,
        "waiting": len(workers.queue),
        "queue_wait": daemon.metrics.duration("queue", device=device),
        "workers": [await _worker(runner, daemon) for runner in list(workers.runners)],
    }


async def _worker(runner: WorkerRunner, daemon: Supervisor) -> dict[str, Any]:
    process = runner.process
    return {
        "name": runner.name,
        "pid": process.pid if process else None,
        "state": "busy" if runner.busy else ("idle" if process else "not started"),
        "deaths": runner.crashes.total,
        "last_death": runner.last_death,
        "rss_bytes": rss_bytes(process.pid) if process else 0,
        "torch": process.versions.torch if process and process.versions else "",
        "comfyui": process.versions.comfyui if process and process.versions else "",
        "models": [
            {
                "key": model.spec.key,
                "role": model.spec.role,
                "name": "/".join(model.spec.path.replace("\\", "/").split("/")[-2:]),
                "precision": model.spec.precision,
                "nbytes": model.nbytes,
                "place": model.place,
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
        "patch_sets": state.patch_sets,
        "patch_bytes": state.patch_bytes,
    }

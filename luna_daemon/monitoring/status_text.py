"""A status snapshot as plain lines of text, for a node's output and for logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MIB = 2**20


def status_lines(snapshot: dict[str, Any]) -> list[str]:
    """Return what the daemon holds and does; luna_daemon/monitoring/status.py says what is in a snapshot."""
    return [
        *_head(snapshot),
        *_devices(snapshot),
        *_workflows(snapshot),
    ]


def _head(snapshot: dict[str, Any]) -> Iterator[str]:
    requests = snapshot["requests"]
    hit_rate = requests["cache_hit_rate"]
    yield (
        f"Luna daemon {snapshot['version']}: {snapshot['state']}, process {snapshot['pid']}, "
        f"up {_duration(snapshot['uptime_s'])}, engine {snapshot['engine']}, "
        f"service {snapshot['service_type']}, {_mb(snapshot['rss_bytes'])}"
    )
    yield (
        f"Requests: {requests['finished']} finished, {requests['failed']} failed, "
        f"{requests['cancelled']} cancelled, {requests['waiting']} waiting"
    )
    rate = "no text encoded yet" if hit_rate is None else f"{hit_rate:.0%} of texts from the cache"
    yield f"Cache: {rate}. Demotions of shared memory: {requests['demotions']}"


def _devices(snapshot: dict[str, Any]) -> Iterator[str]:
    for name, device in snapshot["devices"].items():
        yield (
            f"Device {name}: {_mb(device['reserved_bytes'])} of {_mb(device['budget_bytes'])} taken, "
            f"{device['waiting']} waiting"
        )
        for worker in device["workers"]:
            died = f", died {worker['deaths']} times" if worker["deaths"] else ""
            yield f"  Worker {worker['name']}: {worker['state']}, {_mb(worker['rss_bytes'])}{died}"
            cache = worker["conditioning_cache"]
            if cache:
                yield f"    Cached texts: {cache['entries']}, {_mb(cache['nbytes'])}"
            for model in worker["models"]:
                users = len(model["workflows"])
                yield (
                    f"    {model['role']}: {_plain(model['name'])} ({model['precision']}, "
                    f"{_mb(model['nbytes'])}), used by {users} workflow{'' if users == 1 else 's'}"
                )


def _workflows(snapshot: dict[str, Any]) -> Iterator[str]:
    transports = {entry["session"]: entry["transport"] for entry in snapshot["sessions"]}
    if not snapshot["workflows"]:
        yield "Workflows: none"
    for entry in snapshot["workflows"]:
        way = "connection lost" if entry["lost"] else transports.get(entry["session"], "")
        yield (
            f"Workflow {_plain(entry['workflow_id'])} ({_plain(entry['model_type'])}) by {way}: "
            + (_plain(", ".join(entry["models"])) or "no models")
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _mb(nbytes: int) -> str:
    return f"{nbytes / MIB:.0f} MB"


def _plain(text: str) -> str:
    """What clients have named, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)

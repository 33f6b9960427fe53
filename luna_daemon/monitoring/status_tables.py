"""A status snapshot as tables for a terminal of 100 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

MIB = 2**20


class RequestRate:
    """How many model calls a daemon answers, from one snapshot to the next."""

    def __init__(self) -> None:
        self._before: tuple[str, int, float] | None = None

    def since_the_last(self, snapshot: dict[str, Any], now: float) -> float | None:
        """Return requests per second; None for a daemon's first snapshot. `now` is in seconds."""
        answered = snapshot["requests"]["finished"] + snapshot["requests"]["failed"]
        before, self._before = self._before, (snapshot["boot_id"], answered, now)
        if before is None or before[0] != snapshot["boot_id"] or now <= before[2]:
            return None
        return float((answered - before[1]) / (now - before[2]))


def render(snapshot: dict[str, Any], per_second: float | None = None) -> Group:
    """Return everything that a person may want to see."""
    return Group(
        _head(snapshot),
        _activity(snapshot, per_second),
        _devices(snapshot),
        _workers(snapshot),
        _models(snapshot),
        _workflows(snapshot),
        _requests(snapshot),
    )


def _head(snapshot: dict[str, Any]) -> Text:
    return Text(
        f"Luna daemon {snapshot['version']} · {snapshot['state']} · pid {snapshot['pid']} · "
        f"up {snapshot['uptime_s']:.0f} s · engine {snapshot['engine']}{_versions(snapshot)} · "
        f"service {snapshot['service_type']} · {_mb(snapshot['rss_bytes'])} MB"
    )


def _versions(snapshot: dict[str, Any]) -> str:
    """Return what the workers have loaded, as " (ComfyUI 0.25.0, torch 2.10)"; "" while there is none."""
    workers = [worker for device in snapshot["devices"].values() for worker in device["workers"]]
    found = [
        f"{name} {worker[key]}"
        for worker in workers[:1]
        for name, key in (("ComfyUI", "comfyui"), ("torch", "torch"))
        if worker.get(key)
    ]
    return f" ({', '.join(found)})" if found else ""


def _activity(snapshot: dict[str, Any], per_second: float | None) -> Text:
    requests = snapshot["requests"]
    hit_rate = requests["cache_hit_rate"]
    parts = [
        f"{requests['finished']} requests",
        *([] if per_second is None else [f"{per_second:.1f}/s"]),
        f"{requests['failed']} failed",
        f"{requests['cancelled']} cancelled",
        f"{requests['waiting']} waiting",
        f"cache hits {'none yet' if hit_rate is None else f'{hit_rate:.0%}'}",
        f"{snapshot['answer_cache']['hits']} without a worker",
        f"demotions {requests['demotions']}",
    ]
    return Text(" · ".join(parts))


def _devices(snapshot: dict[str, Any]) -> Table:
    table = _table(
        "Devices",
        *("device", "waiting", "queue ms", "99 % ms"),
        *("weights MB", "reserved MB", "budget MB", "asleep MB"),
    )
    for device, entry in snapshot["devices"].items():
        wait = entry["queue_wait"]
        table.add_row(
            device,
            str(entry["waiting"]),
            f"{wait['p50_ms']:.1f}" if wait else "",
            f"{wait['p99_ms']:.1f}" if wait else "",
            _mb(entry["weight_bytes"]),
            _mb(entry["reserved_bytes"]),
            _mb(entry["budget_bytes"]),
            _mb(entry["asleep_bytes"]) if entry["asleep_bytes"] else "",
        )
    return table


def _workers(snapshot: dict[str, Any]) -> Table:
    table = _table("Workers", "worker", "pid", "state", "MB", "cached", "deaths", "the last one")
    for worker in (w for device in snapshot["devices"].values() for w in device["workers"]):
        cache = worker["conditioning_cache"]
        table.add_row(
            worker["name"],
            str(worker["pid"] or ""),
            worker["state"],
            _mb(worker["rss_bytes"]),
            _cached(cache),
            str(worker["deaths"]),
            _plain(worker["last_death"]),
        )
    return table


def _cached(cache: dict[str, int] | None) -> str:
    if not cache:
        return ""
    results = f"{cache['entries']} ({cache['hits']} hits)"
    sets = cache.get("patch_sets", 0)
    return f"{results}\n{sets} patch sets, {_mb(cache['patch_bytes'])} MB" if sets else results


def _models(snapshot: dict[str, Any]) -> Table:
    table = _table("Models in memory", "model", "role", "precision", "MB", "device", "workflows")
    for device, entry in snapshot["devices"].items():
        for model in (model for worker in entry["workers"] for model in worker["models"]):
            users = ", ".join(model["workflows"]) or "none"
            table.add_row(
                _plain(model["name"]),
                model["role"],
                model["precision"],
                _mb(model["nbytes"]),
                device if model["place"] == "device" else f"{device}, asleep",
                _plain(users),
            )
    return table


def _workflows(snapshot: dict[str, Any]) -> Table:
    transports = {entry["session"]: entry["transport"] for entry in snapshot["sessions"]}
    table = _table("Workflows", "workflow", "model type", "models", "transport")
    for entry in snapshot["workflows"]:
        transport = "connection lost" if entry["lost"] else transports.get(entry["session"], "")
        models = ", ".join(entry["models"])
        table.add_row(_plain(entry["workflow_id"]), _plain(entry["model_type"]), models, transport)
    return table


def _requests(snapshot: dict[str, Any]) -> Table:
    table = _table("Since the start", "what", "count", "median ms", "99 % ms")
    for name, entry in snapshot["durations"].items():
        table.add_row(name, str(entry["count"]), f"{entry['p50_ms']:.1f}", f"{entry['p99_ms']:.1f}")
    for name, number in snapshot["counters"].items():
        table.add_row(name, str(number), "", "")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(text: str) -> Text:
    """What clients have named, without markup and without what a terminal would obey."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def _mb(nbytes: int) -> str:
    return f"{nbytes / MIB:.0f}"

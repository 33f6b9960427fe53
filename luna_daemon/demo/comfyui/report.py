"""What the demonstration with ComfyUI found: tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .workflows import pixels

MIB = 2**20
Images = Sequence[Mapping[str, bytes]]


def different_images(wanted: Images, drawn: Images) -> list[str]:
    """Return the names of the images whose pixels are not those that ComfyUI draws alone."""
    return [
        f"server {number}: {name}"
        for number, (ours, theirs) in enumerate(zip(drawn, wanted, strict=True), 1)
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or pixels(ours[name]) != pixels(theirs[name])
    ]


def summarize(
    wanted: Images,
    different: Sequence[str],
    plain_memory: Mapping[str, int],
    memory: Mapping[str, int],
    status: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the demonstration's figures, JSON-ready."""
    models = _models(status)
    return {
        "identical": not different,
        "different": list(different),
        "images": sum(len(images) for images in wanted),
        "servers": len(wanted),
        "models_loaded": len(models),
        "models_if_unshared": sum(len(_servers(model)) for model in models),
        "weights_mb": _mb(sum(model["nbytes"] for model in models)),
        "weights_if_unshared_mb": _mb(
            sum(model["nbytes"] * len(_servers(model)) for model in models)
        ),
        "memory_mb": _mb(sum(memory.values())),
        "memory_if_unshared_mb": _mb(sum(plain_memory.values())),
        "processes_mb": {name: _mb(nbytes) for name, nbytes in memory.items()},
        "processes_if_unshared_mb": {name: _mb(nbytes) for name, nbytes in plain_memory.items()},
        "requests": status["requests"]["finished"],
        "cache_hits": status["counters"].get("conditioning_cache_hit", 0),
        "transport": ", ".join(sorted({entry["transport"] for entry in status["sessions"]})),
        "engine": status["engine"],
    }


def print_tables(
    console: Console,
    figures: Mapping[str, Any],
    status: Mapping[str, Any],
) -> None:
    """Print who shared which models, what all took, and which images differ."""
    models = Table("model", "role", "MB", "used by", title="Models in the daemon's memory")
    for model in _models(status):
        models.add_row(
            model["name"],
            model["role"].split()[0],  # the rest says which object of which file
            str(_mb(model["nbytes"])),
            f"{len(_servers(model))} servers, {len(model['workflows'])} workflows",
        )
    console.print(models)
    console.print(_memory_table(figures))
    table = Table("", "with the daemon", "without", title=f"{figures['servers']} ComfyUI servers")
    table.add_row(
        "text encoders and VAEs in memory",
        str(figures["models_loaded"]),
        str(figures["models_if_unshared"]),
    )
    table.add_row(
        "their weights", f"{figures['weights_mb']} MB", f"{figures['weights_if_unshared_mb']} MB"
    )
    table.add_row("requests", str(figures["requests"]), "")
    table.add_row("texts found in the cache", str(figures["cache_hits"]), "")
    table.add_row("tensors travel by", figures["transport"], "")
    equal = "all equal" if figures["identical"] else "DIFFERENT"
    table.add_row(f"pixels of {figures['images']} images", equal, "")
    console.print(table)
    for name in figures["different"]:
        console.print(f"[red]{name}: not the image that ComfyUI draws without the daemon[/red]")


def _memory_table(figures: Mapping[str, Any]) -> Table:
    with_daemon, without = figures["processes_mb"], figures["processes_if_unshared_mb"]
    total, total_without = figures["memory_mb"], figures["memory_if_unshared_mb"]
    table = Table(
        "process",
        "with the daemon",
        "without",
        title="Memory at the end, what processes share counted once",
        # Small models do not make up for the daemon's own processes; that must not look like a mistake.
        caption="The daemon and its workers take memory of their own, once. These small models are less "
        "than that; real ones are many times larger."
        if total > total_without
        else None,
    )
    for name in with_daemon:
        alone = f"{without[name]} MB" if name in without else ""
        table.add_row(name, f"{with_daemon[name]} MB", alone)
    table.add_section()
    table.add_row("together", f"{total} MB", f"{total_without} MB")
    return table


def _models(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    workers = [worker for device in status["devices"].values() for worker in device["workers"]]
    return [model for worker in workers for model in worker["models"]]


def _servers(model: Mapping[str, Any]) -> set[str]:
    """Return the servers whose workflows use a model; a workflow's name has its server's in it."""
    return {workflow.split()[1] for workflow in model["workflows"]}


def _mb(nbytes: float) -> float:
    return round(nbytes / MIB, 1)

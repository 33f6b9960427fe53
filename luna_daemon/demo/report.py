"""What the demonstration found: a table, a JSON file and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from ..monitoring.metrics import percentile
from .plan import WorkflowPlan
from .processes import Phase

MIB = 2**20
CELL_PX = 192
MARGIN_PX = 8
LABEL_PX = 16


def compare(plans: Sequence[WorkflowPlan], alone: Phase, shared: Phase) -> dict[str, list[str]]:
    """Return, for each workflow, the names of results that are not bit for bit the same."""
    different = {}
    for plan in plans:
        ours, theirs = load_file(shared.results[plan.name]), load_file(alone.results[plan.name])
        names = sorted(ours.keys() | theirs.keys())
        different[plan.name] = [
            name
            for name in names
            if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
        ]
    return different


def summarize(
    plans: Sequence[WorkflowPlan],
    alone: Phase,
    shared: Phase,
    different: dict[str, list[str]],
    status: dict[str, Any],
) -> dict[str, Any]:
    """Return the demonstration's figures, JSON-ready."""
    durations = [ms for outcome in shared.outcomes.values() for ms in outcome["durations_ms"]]
    transports = sorted({outcome["transport"] for outcome in shared.outcomes.values()})
    return {
        "identical": not any(different.values()),
        "models_loaded": len(_models(status)),
        "models_if_unshared": sum(len(plan.models) for plan in plans),
        "memory_mb": round(shared.memory_bytes / MIB, 1),
        "memory_if_unshared_mb": round(alone.memory_bytes / MIB, 1),
        "calls": len(durations),
        "p50_ms": round(percentile(durations, 50), 3),
        "p99_ms": round(percentile(durations, 99), 3),
        "cache_hits": sum(outcome["cache_hits"] for outcome in shared.outcomes.values()),
        "transport": ", ".join(transports),
    }


def print_tables(
    plans: Sequence[WorkflowPlan],
    different: dict[str, list[str]],
    status: dict[str, Any],
    figures: dict[str, Any],
) -> None:
    """Print which models were shared by whom, and the figures."""
    console = Console()
    models = Table("model", "role", "MB", "used by", title="Models in the daemon's memory")
    for model in _models(status):
        models.add_row(
            model["name"],
            model["role"],
            f"{model['nbytes'] / MIB:.1f}",
            ", ".join(model["workflows"]),
        )
    console.print(models)
    table = Table("", "with the daemon", "without", title="Three workflows at once")
    table.add_row(
        "models loaded", str(figures["models_loaded"]), str(figures["models_if_unshared"])
    )
    table.add_row(
        "memory, all processes",
        f"{figures['memory_mb']} MB",
        f"{figures['memory_if_unshared_mb']} MB",
    )
    table.add_row("calls", str(figures["calls"]), "")
    table.add_row("median / 99 % of a call", f"{figures['p50_ms']} / {figures['p99_ms']} ms", "")
    table.add_row("texts found in the cache", str(figures["cache_hits"]), "")
    table.add_row("tensors travel by", figures["transport"], "")
    equal = "all equal" if figures["identical"] else "DIFFERENT"
    table.add_row("results, bit for bit", equal, "")
    console.print(table)
    for plan in plans:
        for name in different[plan.name]:
            console.print(
                f"[red]{plan.name}: '{name}' is not what the workflow gets without the daemon[/red]"
            )


def draw_contact_sheet(plans: Sequence[WorkflowPlan], shared: Phase, path: Path) -> None:
    """Draw the images of all workflows, a row each."""
    rows = []
    for plan in plans:
        tensors = load_file(shared.results[plan.name])
        names = sorted(
            (n for n in tensors if n.startswith("image ")), key=lambda n: int(n.split()[1])
        )
        rows.append([_picture(tensors[name]) for name in names])
    width = max(len(row) for row in rows) * (CELL_PX + MARGIN_PX) + MARGIN_PX
    height = len(rows) * (CELL_PX + LABEL_PX + MARGIN_PX) + MARGIN_PX
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (plan, row) in enumerate(zip(plans, rows, strict=True)):
        top = MARGIN_PX + y * (CELL_PX + LABEL_PX + MARGIN_PX)
        draw.text((MARGIN_PX, top), f"{plan.name} ({plan.model_type})", fill="black")
        for x, picture in enumerate(row):
            sheet.paste(picture, (MARGIN_PX + x * (CELL_PX + MARGIN_PX), top + LABEL_PX))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _picture(images: torch.Tensor) -> Image.Image:
    """[1, H, W, 3] in 0..1 → a picture of the sheet's cell size."""
    pixels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(pixels).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def _models(status: dict[str, Any]) -> list[dict[str, Any]]:
    workers = [worker for device in status["devices"].values() for worker in device["workers"]]
    return [model for worker in workers for model in worker["models"]]

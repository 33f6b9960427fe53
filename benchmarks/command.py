"""`luna.py bench`: measures areas, shows a table, writes results.

Exit code 0 when everything was measured, whether goals are met or not; 1 when something could not be.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import tempfile
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .entries import (
    Bench,
    Entry,
    Measurement,
    read_records,
    record_of,
    replace_records,
    write_records,
)

# Area → package beside this module, with MEASUREMENTS, and `why_not()` where something must be installed.
AREAS = {
    "daemon": "daemon_area",
    "comfyui": "comfyui_area",
    "lora": "lora_area",
    "wildcards": "wildcards_area",
    "precision": "precision_area",
}
USAGE_ERROR = 2


@dataclass(slots=True)
class Outcome:
    """What was measured, and what could not be."""

    entries: list[tuple[str, Entry]] = field(default_factory=list)  # area, entry
    failed: list[str] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """Return the entries as they stand in a results file."""
        return [record_of(area, entry) for area, entry in self.entries]


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    console = Console()
    unknown = [area for area in options.areas if area not in AREAS]
    if unknown:
        console.print(f"There is no area '{unknown[0]}'. There are: {', '.join(AREAS)}.")
        return USAGE_ERROR
    chosen = choose(options.areas or list(AREAS), options.only)
    if options.list:
        for area, measurement in chosen:
            console.print(f"{area}: {measurement.title}", highlight=False)
        return 0
    if not chosen:
        console.print(f"Nothing is called '{options.only}' there. --list shows what there is.")
        return USAGE_ERROR
    chosen = possible(chosen, console)
    return _measure_and_show(chosen, options, console) if chosen else 0


def _measure_and_show(
    chosen: Sequence[tuple[str, Measurement]], options: argparse.Namespace, console: Console
) -> int:
    try:
        kept = records_to_keep(options.json, () if options.only else {area for area, _ in chosen})
    except ValueError as error:  # better now than after minutes of measuring
        console.print(str(error), markup=False, soft_wrap=True)
        return USAGE_ERROR

    def save(outcome: Outcome) -> None:
        if options.json is not None:
            write_records(options.json, replace_records(kept, outcome.records()))

    outcome = measure(chosen, console, save, quick=options.quick, full_size=options.full_size)
    console.print(table_of(outcome))
    if options.json is not None:
        console.print(f"Results: {options.json}")
    for title in outcome.failed:
        console.print(f"[red]Not measured: {title}. The reason is above.[/red]")
    return 1 if outcome.failed else 0


def choose(areas: Sequence[str], only: str) -> list[tuple[str, Measurement]]:
    """Return the measurements of areas whose title contains a text."""
    return [
        (area, measurement)
        for area in areas
        for measurement in importlib.import_module(f".{AREAS[area]}", __package__).MEASUREMENTS
        if only in measurement.title
    ]


def possible(
    chosen: Sequence[tuple[str, Measurement]], console: Console
) -> list[tuple[str, Measurement]]:
    """Return the measurements of areas that have what they need; say which have not, and why."""
    reasons = {area: _why_not(area) for area in dict.fromkeys(area for area, _ in chosen)}
    for area, reason in reasons.items():
        if reason:
            console.print(f"{area}: nothing is measured. {reason}", markup=False, soft_wrap=True)
    return [(area, measurement) for area, measurement in chosen if not reasons[area]]


def _why_not(area: str) -> str:
    package = importlib.import_module(f".{AREAS[area]}", __package__)
    why_not: Callable[[], str] | None = getattr(package, "why_not", None)
    return why_not() if why_not else ""


def measure(
    chosen: Sequence[tuple[str, Measurement]],
    console: Console,
    save: Callable[[Outcome], None],
    *,
    quick: bool = False,
    full_size: bool = False,
) -> Outcome:
    """Measure one thing after the other, also after one has failed; save what is there after each."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="luna-bench-", ignore_cleanup_errors=True) as folder:
        set_environment(Path(folder))
        for number, (area, measurement) in enumerate(chosen, start=1):
            title = f"{number}/{len(chosen)} {area}: {measurement.title}"
            bench = Bench(Path(folder), quick=quick, full_size=full_size)
            try:
                for entry in _watched(title, area, measurement, bench, console):
                    outcome.entries.append((area, entry))
            except Exception:  # noqa: BLE001  # boundary: the other measurements go on
                outcome.failed.append(f"{area}: {measurement.title}")
                console.print(traceback.format_exc(), markup=False, highlight=False)
            save(outcome)
    return outcome


def set_environment(folder: Path) -> None:
    """Let this process, and every one that is started, have one thread and nobody's own settings."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in [name for name in os.environ if name.startswith("LUNA_")]:
        del os.environ[name]
    settings = folder / "no-settings.yaml"
    settings.write_text("", "utf-8")
    os.environ["LUNA_CONFIG"] = str(settings)


def _watched(
    title: str, area: str, measurement: Measurement, bench: Bench, console: Console
) -> Iterator[Entry]:
    """Measure, showing what goes on, and each number as soon as it is there."""
    status = console.status(title)

    def tell(text: str) -> None:
        status.update(f"{title} – {text}")

    if measurement.draws:
        console.print(title)
    else:
        status.start()
    try:
        module = importlib.import_module(f".{AREAS[area]}.{measurement.module}", __package__)
        run = getattr(module, measurement.function)
        for entry in run(dataclasses.replace(bench, tell=tell)):
            text = f"{area}: {entry.name}: {shown(entry.value)} {entry.unit}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            yield entry
    finally:
        status.stop()


def table_of(outcome: Outcome) -> Table:
    """Return the results for people."""
    table = Table("area", "name", "value", "goal", "met", "quartiles", "n")
    for area, entry in outcome.entries:
        bound = "<=" if entry.better == "lower" else ">="
        low, high = entry.spread
        table.add_row(
            area,
            entry.name,
            f"{shown(entry.value)} {entry.unit}",
            "" if entry.goal is None else f"{bound} {entry.goal:g}",
            {True: "yes", False: "[red]no[/red]", None: ""}[entry.met],
            f"{shown(low)} to {shown(high)}",
            str(entry.n),
        )
    return table


def records_to_keep(path: Path | None, whole: Container[str] = ()) -> list[dict[str, Any]]:
    """Return the records of a results file, without those of areas that are measured as a whole.

    Raises:
        ValueError: It is something else.
    """
    records = read_records(path) if path is not None and path.is_file() else []
    return [record for record in records if record["area"] not in whole]


def shown(value: float) -> str:
    """Return a value with three significant digits, or all of its integer part."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="luna.py bench",
        description="Compare things that take turns, and show the medians beside their goals.",
    )
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of: {', '.join(AREAS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    parser.add_argument("--list", action="store_true", help="show what can be measured, and end")
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="measure what has this text in its title; with --json, the file's other results stay",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few samples: does everything still run?"
    )
    parser.add_argument(
        "--full-size", action="store_true", help="real sizes for the memory of three workflows"
    )
    return parser

"""Results → docs/performance.md and its picture. Run it on the machine that was measured.

Areas that the results do not have stay on the page as they were measured before.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chart import draw
from .earlier_page import EarlierPage, read_page
from .entries import read_records

DOCS = Path(__file__).resolve().parent.parent / "docs"
MACHINE_KINDS = {"shared": "a shared virtual machine", "own": "a machine with nothing else to do"}
_HEADINGS = {"comfyui": "ComfyUI"}
_METHOD = """\
Two things that are compared take turns in one run: A B, B A, A B, … Each pair gives one ratio, and the value is
the median of at least 15 ratios; pairs are added, up to 60, until the quartiles are no further apart than
10 % of the median. Costs are CPU time of all processes that have a part in them (client, supervisor,
worker), since wall time on a shared machine also measures the neighbours; where a line says *wall*, it is
wall time, in blocks of calls that take turns. Everything runs with one thread per process
(`OMP_NUM_THREADS=1`). Models have random weights in real shapes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the numbers depend on beside the code."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    versions: Mapping[str, str]
    kind: str


def main(arguments: Sequence[str]) -> int:
    """Write the page for a results file."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/report.py",
        description="Write docs/performance.md from a results file of 'luna.py bench --json FILE'.",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--machine", choices=MACHINE_KINDS, default="shared")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR")
    options = parser.parse_args(arguments)
    date = datetime.date.fromtimestamp(options.file.stat().st_mtime)
    machine = this_machine(MACHINE_KINDS[options.machine])
    there = options.out / "performance.md"
    try:
        records = read_records(options.file)
        if there.exists():
            records = with_earlier(records, read_page(there.read_text("utf-8")), machine)
    except ValueError as error:
        print(f"{there} cannot be written. {error}")
        return 1
    page = write_page(records, machine, date)
    options.out.mkdir(parents=True, exist_ok=True)
    there.write_text(page, "utf-8")
    (options.out / "performance.svg").write_text(draw(records), "utf-8")
    print(f"Written: {options.out / 'performance.md'} and performance.svg")
    return 0


def with_earlier(
    records: Sequence[dict[str, Any]], earlier: EarlierPage, machine: Machine
) -> list[dict[str, Any]]:
    """Return records, with those of an earlier page for the areas that they do not have.

    Raises:
        ValueError: The earlier ones were measured on another machine.
    """
    fresh = {record["area"] for record in records}
    kept = [record for record in earlier.records if record["area"] not in fresh]
    rows = dict(_machine_rows(machine))
    if kept and any(earlier.machine.get(name) != rows[name] for name in ("processor", "memory")):
        raise ValueError(
            "What is there was measured on another machine. Measure all areas, or write elsewhere with --out."
        )
    order = dict.fromkeys(record["area"] for record in [*earlier.records, *records])
    return [r for area in order for r in [*kept, *records] if r["area"] == area]


def write_page(records: Sequence[Mapping[str, Any]], machine: Machine, date: datetime.date) -> str:
    """Return the page in Markdown. Records of another date than the page's have it as `date`."""
    areas = list(dict.fromkeys(record["area"] for record in records))
    parts = [
        "# Performance",
        f"Measured on {date.isoformat()} on {machine.kind} with {machine.cores} cores. {_summary(records)}",
        "![How much of each goal is used](performance.svg)",
        "## Method",
        _METHOD,
        "## Machine",
        _machine_table(machine),
    ]
    for area in areas:
        own = [record for record in records if record["area"] == area]
        parts.append(f"## {_HEADINGS.get(area, area.capitalize())}")
        measured = own[0].get("date", date.isoformat())
        if measured != date.isoformat():
            parts.append(f"Measured on {measured}.")
        parts += [_table(own), "### What was compared", _explanations(own)]
    commands = f"python3 luna.py bench {' '.join(areas)} --json results.json"
    parts += [
        "## How to repeat",
        f"```\n{commands}\n.venv/bin/python benchmarks/report.py results.json\n```",
        "`luna.py bench --list` shows what there is, `--only TEXT` measures a part of it, `--quick` takes a few "
        "samples, and `--full-size` takes models of real size where that needs much memory.",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(records: Sequence[Mapping[str, Any]]) -> str:
    goals = [record for record in records if record["goal"] is not None]
    missed = [str(record["name"]) for record in goals if not record["met"]]
    if not missed:
        return f"All {len(goals)} goals are met."
    return (
        f"{len(goals) - len(missed)} of {len(goals)} goals are met; not met: {'; '.join(missed)}."
    )


def this_machine(kind: str) -> Machine:
    """Return what this machine and environment are."""
    packages = ("torch", "transformers", "diffusers", "msgspec")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if _has_sysconf() else 0
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=memory / 2**30,
        system=f"{platform.system()} {platform.release()}",
        versions={
            "Python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        kind=kind,
    )


def _has_sysconf() -> bool:
    return hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names


def _processor() -> str:
    """Return the processor's name, which `platform` does not know on Linux."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _machine_rows(machine: Machine) -> list[tuple[str, str]]:
    return [
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", f"{machine.memory_gb:.0f} GB"),
        ("system", machine.system),
        *machine.versions.items(),
    ]


def _machine_table(machine: Machine) -> str:
    rows = [f"| {name} | {value} |" for name, value in _machine_rows(machine)]
    return "\n".join(["| | |", "|---|---|", *rows])


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| | value | goal | met | quartiles | n |", "|---|---|---|---|---|---|"]
    for record in records:
        sign = "≤" if record["better"] == "lower" else "≥"
        goal = "" if record["goal"] is None else f"{sign} {record['goal']:g}"
        met = {True: "yes", False: "**no**", None: ""}[record["met"]]
        low, high = record["spread"]
        lines.append(
            f"| {record['name']} | {_number(record['value'])} {_unit(record)} | {goal} | {met} | "
            f"{_number(low)} to {_number(high)} | {record['n']} |"
        )
    return "\n".join(lines)


def _explanations(records: Sequence[Mapping[str, Any]]) -> str:
    """Return how things were measured; what was measured alike shares a line."""
    names: dict[str, list[str]] = {}
    for record in records:
        names.setdefault(record["how"], []).append(f"**{record['name']}**")
    return "\n".join(f"* {', '.join(alike)}: {how}" for how, alike in names.items())


def _unit(record: Mapping[str, Any]) -> str:
    return "×" if record["unit"] == "x" else str(record["unit"])


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

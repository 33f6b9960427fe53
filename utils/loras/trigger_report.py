"""The trigger words of a whole stack, and what to tell of where they are from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from .stack import LoraEntry
from .trigger_sets import Triggers, TriggerSet, choose_sets, read_triggers

PathOf = Callable[[str], Path]


def triggers_of_stack(
    entries: Iterable[LoraEntry], wanted: str, path_of: PathOf
) -> tuple[list[tuple[TriggerSet, ...]], str]:
    """Return the chosen sets of each LoRA that has an effect, and a report.

    Args:
        entries: Of a stack; one with no strength at all has no words.
        wanted: Names or numbers of sets, with commas between them; empty: all.
        path_of: A LoRA's name as a stack has it → its file.
    """
    chosen, lines = [], []
    for entry in entries:
        if entry.model_strength == 0 and entry.clip_strength == 0:
            lines.append(f"{entry.name}: strength 0, left out")
            continue
        found = read_triggers(path_of(entry.name))
        chosen.append(choose_sets(found.sets, wanted.split(",")))
        lines += _lines(entry.name, found, chosen[-1])
    return chosen, "\n".join(lines)


def _lines(name: str, found: Triggers, chosen: tuple[TriggerSet, ...]) -> list[str]:
    if not found.sets:
        return [f"{name}: no trigger words found", *(f"  {each}" for each in found.problems)]
    lines = [f"{name}: from {found.source}"]
    for number, each in enumerate(found.sets, start=1):
        mark = "used" if each in chosen else "not used"
        lines.append(f"  {number} {each.name} ({mark}): {', '.join(each.words)}")
    return lines + [f"  {each}" for each in found.problems]

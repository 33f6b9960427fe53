"""Expanders: details that are put at the end of a prompt because of what was picked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .matching import Context, Place, rules_of, texts_of
from .records import Record

_OLD_LISTS = ("details", "atmosphere")
_OLD_COUNT = (1, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Expander:
    """One rule.

    Attributes:
        name: Its own stream of chance hangs on it.
        places: One pick from one of these is needed.
        values: Texts and their weights.
        count: How many are drawn: at least, at most.
        chance: That anything is drawn, 0 to 1.
    """

    name: str
    places: tuple[Place, ...]
    values: tuple[tuple[str, float], ...]
    count: tuple[int, int]
    chance: float


def read_expanders(root: Record, context: Context) -> Iterator[Expander]:
    """Yield the rules of a file, in either form.

    `name: {paths, values, count, weight}`, or `source: {details: [...], atmosphere: [...]}`.
    """
    for name, rule in rules_of(root, "expanders").items():
        fields = rule.fields
        paths = fields.get("paths")
        places = context.places(paths) if paths is not None else (context.place(name),)
        chance = _chance(fields.get("weight"), context)
        found = False
        for key in ("values", *_OLD_LISTS):
            values = tuple(value for value in texts_of(fields.get(key)) if value[1] > 0)
            if values:
                otherwise = (1, 1) if key == "values" else _OLD_COUNT
                count = _count(fields.get("count"), otherwise, context)
                yield Expander(f"{name}/{key}", places, values, count, chance)
                found = True
        if not found:
            context.source.remark(f"'{name}' has no list 'values', so it does nothing.", rule)


def _chance(record: Record | None, context: Context) -> float:
    if record is None:
        return 1.0
    chance = context.source.number(record, "weight", 1.0)
    if not 0 <= chance <= 1:
        context.source.remark(f"the weight {chance} is no chance from 0 to 1.", record)
    return min(max(chance, 0.0), 1.0)


def _count(record: Record | None, otherwise: tuple[int, int], context: Context) -> tuple[int, int]:
    if record is None:
        return otherwise
    numbers = [int(context.source.number(part, "count", 1)) for part in record.parts]
    if not 1 <= len(numbers) <= 2 or min(numbers) < 0:
        context.source.remark("a count is a number, or a list of two.", record)
        return otherwise
    return min(numbers), max(numbers)

"""A pool of LoRAs to draw from: files of YAML, tags, and the drawing itself.

A pool file is a list. An entry is a LoRA's name, or a table of which only `name` is needed:

    - name: styles/ink_wash.safetensors
      weight_min: 0.6
      weight_max: 0.9
      chance: 0.5          # that it takes part in a draw, 0 to 1
      tags: [style, ink]
    - film_grain
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import yaml

from ..errors import InputError
from ..seeded_draw import SeededDraw, Steps
from .names import resolve, stem
from .stack import LoraEntry

_FIELDS = ("name", "weight_min", "weight_max", "chance", "tags")
_EXAMPLE = "An entry looks like this: {name: ink.safetensors, weight_min: 0.6, weight_max: 1.0}."


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A LoRA of a pool.

    Attributes:
        name: As written; `resolve_pool` says which file it is.
        weight_min: Lowest weight; None: that of the draw.
        weight_max: Highest weight; None: that of the draw.
        chance: That it takes part, 0 to 1.
        tags: In lower case.
    """

    name: str
    weight_min: float | None = None
    weight_max: float | None = None
    chance: float = 1.0
    tags: frozenset[str] = frozenset()


def parse_pool(text: str, file: str) -> tuple[PoolEntry, ...]:
    """Read a pool file.

    Raises:
        InputError: It is no list of LoRAs; the message names the file and the entry.
    """
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        raise InputError(
            f"The pool file '{file}'{where} is not valid YAML: {getattr(error, 'problem', error)}.",
            "Correct it in a text editor.",
        ) from error
    if loaded is None:
        return ()
    if not isinstance(loaded, list):
        raise InputError(f"The pool file '{file}' is not a list of LoRAs.", _EXAMPLE)
    return tuple(_entry(item, f"Entry {n} of '{file}'") for n, item in enumerate(loaded, start=1))


def resolve_pool(entries: Iterable[PoolEntry], known: Sequence[str]) -> tuple[PoolEntry, ...]:
    """Return the entries with their files' names, each file once: the first entry of it counts.

    Raises:
        InputError: A name fits no file, or several.
    """
    found: dict[str, PoolEntry] = {}
    for entry in entries:
        name = resolve(entry.name, known)
        found.setdefault(name, replace(entry, name=name))
    return tuple(found.values())


def filter_by_tags(entries: Iterable[PoolEntry], wanted: str) -> tuple[PoolEntry, ...]:
    """Keep entries with one of the tags, and without any that is written with a minus before it.

    Args:
        entries: Of a pool.
        wanted: Tags with commas between them, in any case; empty: all entries.
    """
    tags = [tag.strip().lower() for tag in wanted.split(",") if tag.strip()]
    without = {tag[1:].strip() for tag in tags if tag.startswith("-")}
    some = {tag for tag in tags if not tag.startswith("-")}
    return tuple(
        entry for entry in entries if not entry.tags & without and (not some or entry.tags & some)
    )


def draw_from_pool(
    entries: Sequence[PoolEntry], count: int, weights: Steps, seed: int
) -> tuple[LoraEntry, ...]:
    """Draw up to `count` different LoRAs, in the order of the pool, with weights.

    Args:
        entries: Each file once.
        count: How many; fewer come when fewer take part.
        weights: For entries without bounds of their own; the step is for all.
        seed: Any number.
    """
    drawn = []
    for entry in entries:
        stream = SeededDraw(seed, entry.name.replace("\\", "/"))
        takes_part, rank = stream.happens(entry.chance), stream.fraction()
        low = weights.low if entry.weight_min is None else entry.weight_min
        high = weights.high if entry.weight_max is None else entry.weight_max
        weight = stream.number(Steps(low, high, weights.step))
        if takes_part:
            drawn.append((rank, LoraEntry(entry.name, weight, weight)))
    kept = set(sorted(rank for rank, _ in drawn)[:count])
    return tuple(entry for rank, entry in drawn if rank in kept)


def as_tags(entries: Iterable[LoraEntry], known: Sequence[str]) -> str:
    """Return `<lora:name:0.80>` for each entry, with the folder only where the name alone is not clear."""
    stems = [_base_stem(name) for name in known]
    return " ".join(_tag(entry, stems) for entry in entries)


def _tag(entry: LoraEntry, stems: Sequence[str]) -> str:
    short = _base_stem(entry.name)
    name = short if stems.count(short) <= 1 else stem(entry.name.replace("\\", "/"))
    weights = [_number(entry.model_strength)]
    if entry.clip_strength != entry.model_strength:
        weights.append(_number(entry.clip_strength))
    if entry.block_weights:
        weights.append(f"lbw={entry.block_weights}")
    return f"<lora:{name}:{':'.join(weights)}>"


def _base_stem(name: str) -> str:
    return stem(name.replace("\\", "/").rpartition("/")[2])


def _number(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else repr(value)


def _entry(item: Any, where: str) -> PoolEntry:
    if isinstance(item, str) and item.strip():
        return PoolEntry(item.strip())
    if not isinstance(item, dict):
        _refuse(where, "it is neither a name nor a table")
    unknown = [str(key) for key in item if key not in _FIELDS]
    if unknown:
        _refuse(where, f"there is no field '{unknown[0]}'; the fields are {', '.join(_FIELDS)}")
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        _refuse(where, "it has no name")
    chance = _bound(item, "chance", where)
    if chance is not None and not 0 <= chance <= 1:
        _refuse(where, f"its chance is {chance}, but chances are from 0 to 1")
    return PoolEntry(
        name.strip(),
        _bound(item, "weight_min", where),
        _bound(item, "weight_max", where),
        1.0 if chance is None else chance,
        _tags(item.get("tags"), where),
    )


def _bound(item: dict[Any, Any], field: str, where: str) -> float | None:
    value = item.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        _refuse(where, f"its {field} is '{value}', which is no number")
    return float(value)


def _tags(value: Any, where: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(tag, (str, int)) for tag in listed):
        _refuse(where, "its tags are no list of words")
    return frozenset(str(tag).strip().lower() for tag in listed if str(tag).strip())


def _refuse(where: str, why: str) -> NoReturn:
    raise InputError(f"{where} is no LoRA of a pool: {why}.", _EXAMPLE)

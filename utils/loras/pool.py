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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from ..errors import InputError
from ..promptcraft.records import Record, Source, read_records
from ..seeded_draw import SeededDraw, Steps
from ..wildcards.errors import WildcardError
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
        place: Where it is written, for messages; "" where that is no file.
    """

    name: str
    weight_min: float | None = None
    weight_max: float | None = None
    chance: float = 1.0
    tags: frozenset[str] = frozenset()
    place: str = field(default="", compare=False)


def parse_pool(text: str, file: str) -> tuple[PoolEntry, ...]:
    """Read a pool file.

    Raises:
        InputError: It is no list of LoRAs; the message names the file, the line and the field.
    """
    source = Source(file)
    try:
        root = read_records(text, source)
    except WildcardError as error:
        raise InputError(
            f"The pool file '{file}' cannot be read: {error.message}.",
            "Correct it in a text editor.",
        ) from error
    if source.remarks:
        remark = source.remarks[0]
        raise _bad(file, remark.line, remark.message.rstrip("."))
    if root.value is None:
        return ()
    if not isinstance(root.value, list):
        raise InputError(f"The pool file '{file}' is not a list of LoRAs.", _EXAMPLE)
    return tuple(_Reader(file, record).entry() for record in root.value)


def resolve_pool(entries: Iterable[PoolEntry], known: Sequence[str]) -> tuple[PoolEntry, ...]:
    """Return the entries with their files' names, each file once: the first entry of it counts.

    Raises:
        InputError: A name fits no file, or several; the message says where it is written.
    """
    found: dict[str, PoolEntry] = {}
    for entry in entries:
        try:
            name = resolve(entry.name, known)
        except InputError as error:
            if not entry.place:
                raise
            raise InputError(f"{entry.place}: {error.message}", error.hint) from error
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


class _Reader:
    """Reads one entry of a pool file."""

    def __init__(self, file: str, record: Record) -> None:
        self._file, self._record = file, record
        self._fields: Mapping[str, Record] = record.fields

    def entry(self) -> PoolEntry:
        """Return what it says."""
        if self._record.text:
            return PoolEntry(self._record.text, place=self._place(self._record))
        if not isinstance(self._record.value, dict):
            self._refuse(self._record, "an entry is a name or a table, and this is neither")
        for said, record in self._fields.items():
            if said not in _FIELDS:
                known = ", ".join(_FIELDS)
                self._refuse(record, f"there is no field '{said}'; the fields are {known}")
        name = self._fields.get("name")
        if name is None or not name.text:
            self._refuse(name or self._record, "the entry has no name")
        chance = self._number("chance")
        if chance is not None and not 0 <= chance <= 1:
            self._refuse(
                self._fields["chance"], f"chance is {chance:g}, but chances are from 0 to 1"
            )
        return PoolEntry(
            name.text,
            self._number("weight_min"),
            self._number("weight_max"),
            1.0 if chance is None else chance,
            self._tags(),
            self._place(name),
        )

    def _number(self, field: str) -> float | None:
        record = self._fields.get(field)
        if record is None or record.value is None:
            return None
        try:
            number = float(record.text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self._refuse(record, f"{field} is '{record.text}', which is no number")
        return number

    def _tags(self) -> frozenset[str]:
        record = self._fields.get("tags")
        if record is None or record.value is None:
            return frozenset()
        parts: list[Record] = record.value if isinstance(record.value, list) else [record]
        if not all(isinstance(part.value, str) for part in parts):
            self._refuse(record, "tags is no list of words")
        return frozenset(word.lower() for word in record.words)

    def _place(self, record: Record) -> str:
        return _place(self._file, record.line)

    def _refuse(self, record: Record, why: str) -> NoReturn:
        raise _bad(self._file, record.line, why)


def _bad(file: str, line: int, why: str) -> InputError:
    return InputError(f"{_place(file, line)}: {why}.", _EXAMPLE)


def _place(file: str, line: int) -> str:
    return f"The pool file '{file}', line {line}"

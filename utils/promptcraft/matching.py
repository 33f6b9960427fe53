"""How rules name items: by a path that they lie under, by a tag, or by a part of what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..wildcards.names import normal
from .items import Item, Path, weighted_text
from .records import Record, Source

EVERYTHING = "*"
Finder = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Place:
    """What a rule is about.

    Attributes:
        path: As it is compared, with the category in front; () is everything.
        tag: The same words as a tag.
    """

    path: Path
    tag: str

    def holds(self, item: Item) -> bool:
        """Does an item lie there?"""
        return item.lies_under(self.path)

    def holds_or_tags(self, item: Item) -> bool:
        """Does an item lie there, or have a tag of that name?"""
        return self.tag in item.tags or item.lies_under(self.path)


@dataclass(frozen=True, slots=True)
class Entry:
    """A word that is looked for in an item's id, text, category and path: `hat`, or `10::hat`.

    Attributes:
        word: As it is compared.
        weight: What a matching item weighs, if that is written.
    """

    word: str
    weight: float | None

    def fits(self, item: Item) -> bool:
        """Is the word a part of what is written about an item?"""
        return self.word in item.searched


@dataclass(frozen=True, slots=True)
class Context:
    """What rules are read with.

    Attributes:
        source: The file.
        find: From an address as it is written to the path that is compared.
    """

    source: Source
    find: Finder

    def place(self, written: str) -> Place:
        """Return what an address names."""
        if written.strip() == EVERYTHING:
            return Place((), EVERYTHING)
        return Place(self.find(written), normal(written.strip()))

    def places(self, record: Record) -> tuple[Place, ...]:
        """Return what several addresses name."""
        return tuple(self.place(word) for word in record.words)


def entries_of(record: Record | None) -> tuple[Entry, ...]:
    """Return the entries of a list."""
    if record is None:
        return ()
    found = []
    for word in record.words:
        text, weight = weighted_text(word)
        if text:
            found.append(Entry(normal(text), weight if text != word else None))
    return tuple(found)


def texts_of(record: Record | None) -> tuple[tuple[str, float], ...]:
    """Return texts and their weights; unlike words, a text alone may have commas."""
    if record is None:
        return ()
    return tuple(weighted_text(part.text) for part in record.parts if part.text)


def any_fits(entries: Iterable[Entry], items: Iterable[Item]) -> bool:
    """Does one of the entries fit one of the items?"""
    entries = tuple(entries)
    return any(entry.fits(item) for item in items for entry in entries)


def rules_of(root: Record, *wrappers: str) -> dict[str, Record]:
    """Return a rule file's keys; they may stand below a key that only says what they are."""
    fields = root.fields
    for wrapper in wrappers:
        if wrapper in fields and fields[wrapper].fields:
            return fields[wrapper].fields
    return {
        key: record
        for key, record in fields.items()
        if key not in ("type", "name", "description", "version")
    }

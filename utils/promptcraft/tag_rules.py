"""Tags that a file of its own gives to items: by path, or by id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .items import tags_of
from .matching import Context, Place, rules_of
from .records import Record


@dataclass(frozen=True, slots=True, eq=False)
class TagRule:
    """The tags of everything in a place."""

    place: Place
    tags: frozenset[str]


def read_tag_rules(root: Record, context: Context) -> Iterator[TagRule]:
    """Yield the rules of a file: place → tags; mappings in mappings are paths."""
    yield from _rules(rules_of(root, "tags"), "", context)


def _rules(fields: dict[str, Record], above: str, context: Context) -> Iterator[TagRule]:
    for key, record in fields.items():
        path = f"{above}.{key}" if above else key
        if record.fields:
            yield from _rules(record.fields, path, context)
        elif record.words:
            yield TagRule(context.place(path), tags_of(record.words))
        else:
            context.source.remark(f"'{path}' has no tags.", record)

"""What was drawn, told as data: for metadata, for programs, and for whoever wonders where a word is from."""

from __future__ import annotations

from typing import NamedTuple

from .resolving import Found
from .tree import Choice, FilePick, NumberRange, Reference, Slot


class Pick(NamedTuple):
    """One draw.

    Attributes:
        kind: "wildcard", "template", "path", "number" or "option".
        source: What is written in the text, such as `__hair/color__`; of a long choice its beginning.
        name: What was drawn from: a name, `file:path`, or "".
        value: What was drawn, as it is written.
        text: What became of it.
        file: The file in which the value is written, below its folder; "" for what stands in the text.
        path: The keys in that file.
    """

    kind: str
    source: str
    name: str
    value: str
    text: str
    file: str = ""
    path: str = ""


def of_option(node: Choice, index: int, text: str) -> Pick:
    """Tell of an option of a choice."""
    return Pick("option", node.source, "", node.written[index], text)


def of_number(node: NumberRange, text: str) -> Pick:
    """Tell of a number."""
    return Pick("number", node.source, "", text, text)


def of_value(node: Reference | FilePick | Slot, found: Found, index: int, text: str) -> Pick:
    """Tell of a value of a list."""
    values = found.values
    kind = "template" if found.document is not None else _KINDS[node.__class__]
    file = values.origin(index).file
    return Pick(kind, node.source, found.name, values.texts[index], text, file, values.path)


def of_template(node: FilePick, file: str, text: str) -> Pick:
    """Tell of a template that stands in the text, filled from a file."""
    return Pick("template", node.source, node.file, "", text, file)


_KINDS = {Reference: "wildcard", FilePick: "path", Slot: "path"}

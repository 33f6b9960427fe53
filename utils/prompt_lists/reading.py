"""Files of prompts → entries. The file's ending says how it is written."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from ..errors import InputError
from ..wildcards.decoding import decode
from ..wildcards.errors import WildcardError
from .entry import PromptEntry, entry_of, is_known_field

_Records = Iterator[tuple[object, int]]  # each with the line where it begins
_DELIMITERS = ",;\t"
_NAMED_DELIMITER = re.compile(r"sep=([,;\t])", re.IGNORECASE)  # Excel's first line
# Scalars stay as they are written, as in CSV; no tag can build anything.
_YAML: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_EMPTY_YAML = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class PromptList:
    """A file of prompts.

    Attributes:
        file: Its name.
        entries: At least one.
        note: What is to be said of how it was read; may be empty.
    """

    file: str
    entries: tuple[PromptEntry, ...]
    note: str = ""


def read_list(data: bytes, file: str) -> PromptList:
    """Read a file of prompts.

    Args:
        data: Its bytes.
        file: Its name, whose ending counts.

    Raises:
        InputError: It cannot be read; the message names the file and the line.
    """
    reader = _READERS.get(ending_of(file))
    if reader is None:
        raise InputError(
            f"'{file}' is no list of prompts: its name ends in none of {', '.join(ENDINGS)}.",
            "Save it in one of these formats.",
        )
    try:
        text, note = decode(data)
    except WildcardError as error:
        raise InputError(f"'{file}' cannot be read: {error}.") from error
    entries = tuple(entry_of(record, file, line) for record, line in reader(text, file))
    if not entries:
        raise InputError(f"'{file}' has no prompts in it.", "Put an entry into it.")
    return PromptList(file, entries, note and f"'{file}': {note}.")


def ending_of(file: str) -> str:
    """Return the ending of a file's name, in lower case, with its dot."""
    return f".{file.rpartition('.')[2].lower()}"


def _csv(text: str, file: str) -> _Records:
    """Yield the rows below the line with the columns' names."""
    first = text.lstrip("\n").partition("\n")[0]
    named = _NAMED_DELIMITER.fullmatch(first)
    delimiter = named.group(1) if named else max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] = []
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            _refuse(file, line, f"it is not valid CSV: {error}", "Put quotes around the field.")
        if row is None:
            return
        if not any(field.strip() for field in row) or (named and not columns and _is_named(row)):
            continue
        if not columns:
            columns = _columns(row, file, line)
            continue
        if len(row) > len(columns):
            _refuse(
                file,
                line,
                f"it has {len(row)} fields, but there are {len(columns)} columns",
                f"A field with '{delimiter}' in it has to stand in quotes.",
            )
        yield dict(zip(columns, row, strict=False)), line


def _is_named(row: list[str]) -> bool:
    """Is this the line in which a spreadsheet names the delimiter?"""
    return row[0].lower() == "sep=" and not any(row[1:])


def _columns(row: list[str], file: str, line: int) -> list[str]:
    if any(is_known_field(name) for name in row):
        return row
    _refuse(
        file,
        line,
        f"none of the columns {', '.join(repr(name.strip()) for name in row[:8])} is known",
        "The first line names the columns: positive, negative, seed, loras, width, height, name.",
    )


def _json(text: str, file: str) -> _Records:
    """Yield the items of the outermost list. They are decoded one by one, to know their lines."""
    decoder = json.JSONDecoder()
    place, line = _blank(text, 0), 1
    if text[place : place + 1] != "[":
        # What is wrong with it, if it is no JSON at all, is the better thing to say.
        _decoded(lambda: json.loads(text), file, 1)
        _refuse(file, 1, "it is not a list", 'It has to look like this: [{"positive": "…"}, …].')
    known = 0  # up to where lines were counted
    place = _blank(text, place + 1)
    while text[place : place + 1] != "]":
        line += text.count("\n", known, place)
        known = place
        item, place = _decoded(functools.partial(decoder.raw_decode, text, place), file, line)
        yield item, line
        place = _blank(text, place)
        mark = text[place : place + 1]
        if mark == ",":
            place = _blank(text, place + 1)
        elif mark != "]":
            here = text.count("\n", 0, place) + 1
            _refuse(file, here, "a comma or the list's ] is missing behind this entry")
    if text[place + 1 :].strip():
        _refuse(file, text.count("\n", 0, place) + 1, "there is something behind the list's ]")


def _json_lines(text: str, file: str) -> _Records:
    for line, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            yield _decoded(functools.partial(json.loads, written), file, line, base=line), line


def _yaml(text: str, file: str) -> _Records:
    try:
        loader = _YAML(text)
        node = loader.get_single_node()
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            _refuse(
                file, node.start_mark.line + 1, "it is not a list", "Begin each entry with '- '."
            )
        for child in node.value:
            yield _filled(loader.construct_object(child, deep=True)), child.start_mark.line + 1
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it is not well-formed"
        _refuse(file, mark.line + 1 if mark else 1, f"it is not valid YAML: {problem}")
    except RecursionError:
        _refuse(file, 1, "it is nested too deeply")


def _filled(value: object) -> object:
    """Return a table without the fields that are null."""
    if not isinstance(value, dict):
        return value
    return {
        key: None if isinstance(item, str) and item in _EMPTY_YAML else item
        for key, item in value.items()
        if isinstance(key, str)
    }


def _decoded(decode: Callable[[], Any], file: str, line: int, base: int = 1) -> Any:
    try:
        return decode()
    except json.JSONDecodeError as error:
        # The line in the text that was decoded, which for JSON lines is one of many.
        _refuse(file, base - 1 + error.lineno, f"it is not valid JSON: {error.msg}")
    except RecursionError:
        _refuse(file, line, "it is nested too deeply")


def _blank(text: str, place: int) -> int:
    """Return the place of the next character that is no white space."""
    while text[place : place + 1] in (" ", "\n", "\t") and place < len(text):
        place += 1
    return place


def _refuse(file: str, line: int, why: str, hint: str = "") -> NoReturn:
    raise InputError(f"'{file}', line {line}: {why}.", hint or "Correct it in a text editor.")


_READERS: dict[str, Callable[[str, str], _Records]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".yml": _yaml,
}
ENDINGS = tuple(_READERS)

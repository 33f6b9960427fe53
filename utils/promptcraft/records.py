"""YAML and JSON as they are written: texts, lists and mappings, each with its line.

Only composed, never constructed: no tag of a file can run or build anything.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..wildcards.errors import Remark, WildcardError

MAX_DEPTH = 60
MAX_REPEATS = 100_000  # of parts of a file by aliases, which can make very many from few
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


@dataclass(frozen=True, slots=True)
class Record:
    """A part of a file.

    Attributes:
        value: A text as it is written; a list; a mapping; None where nothing stands.
        line: Counted from 1.
    """

    value: str | list[Record] | dict[str, Record] | None
    line: int

    @property
    def fields(self) -> dict[str, Record]:
        """What a mapping holds; {} for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def text(self) -> str:
        """The text without space around it; "" for anything else."""
        return self.value.strip() if isinstance(self.value, str) else ""

    @property
    def parts(self) -> list[Record]:
        """What a list holds; a text alone is a list of one."""
        if isinstance(self.value, list):
            return self.value
        return [self] if self.text else []

    @property
    def words(self) -> list[str]:
        """The texts of a list, or of a text with commas in it."""
        if isinstance(self.value, list):
            return [part.text for part in self.value if part.text]
        return [word.strip() for word in self.text.split(",") if word.strip()]


class Source:
    """A file that is being read.

    Attributes:
        file: What it is called in remarks.
        remarks: What is not as it should be in it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.remarks: list[Remark] = []

    def remark(self, message: str, record: Record) -> None:
        """Say something about a part of the file."""
        self.remarks.append(Remark(message, self.file, record.line))

    def number(self, record: Record, what: str, otherwise: float) -> float:
        """Return the number that is written; what is none is remarked on."""
        try:
            number = float(record.text)
            if abs(number) < 1e9:  # neither NaN nor endless
                return number
        except ValueError:
            pass  # the remark below says it
        self.remark(f"the {what} '{record.text}' is no number; it counts as {otherwise}.", record)
        return otherwise


def read_records(text: str, source: Source) -> Record:
    """Return the root of a file; `.json` files are read as JSON, all others as YAML.

    Raises:
        WildcardError: It is not well-formed; the text says where.
    """
    try:
        if source.file.lower().endswith(".json"):
            return _read_json(text)
        return _YamlReader(text, source).read()
    except RecursionError as error:
        raise WildcardError("it is nested too deeply") from error


def _check(depth: int, line: int) -> None:
    if depth > MAX_DEPTH:
        raise WildcardError(f"line {line}: it is nested more than {MAX_DEPTH} deep")


class _YamlReader:
    def __init__(self, text: str, source: Source) -> None:
        self._text = text
        self._source = source
        self._left = MAX_REPEATS + len(text)  # each part takes a character at least
        self._loader = _LOADER(text)

    def read(self) -> Record:
        try:
            node = self._loader.get_single_node()
            return Record(None, 1) if node is None else self._record(node, 0)
        except yaml.YAMLError as error:
            raise WildcardError(_explained(error, self._text)) from error
        finally:
            self._loader.dispose()

    def _record(self, node: Any, depth: int) -> Record:
        line = node.start_mark.line + 1
        _check(depth, line)
        self._left -= 1
        if self._left < 0:
            raise WildcardError(f"line {line}: its aliases repeat too many values")
        if isinstance(node, yaml.ScalarNode):
            return Record(None if node.tag == _NULL else node.value, line)
        if isinstance(node, yaml.SequenceNode):
            return Record([self._record(child, depth + 1) for child in node.value], line)
        if node.flow_style and node.value and all(v.tag == _NULL for _, v in node.value):
            # `{hair}`, which its author forgot to quote.
            return Record(self._text[node.start_mark.index : node.end_mark.index], line)
        return Record(self._mapping(node, depth), line)

    def _mapping(self, node: Any, depth: int) -> dict[str, Record]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                where = Record(key.value, key.start_mark.line + 1)
                self._source.remark(f"'{key.value}' is there twice; the last one counts.", where)
            seen.add(str(key.value))
        self._loader.flatten_mapping(node)  # what `<<` merges in comes first, and yields
        found: dict[str, Record] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                found[key.value.strip()] = self._record(value, depth + 1)
            else:
                where = Record(None, key.start_mark.line + 1)
                self._source.remark("this key is no text; it is left out. Quote it.", where)
        return found


def _explained(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    # At the end of a text, the mark is a line below the last one.
    where = f"line {min(mark.line, text.count(chr(10))) + 1}: " if mark is not None else ""
    return (
        f"{where}it cannot be read as YAML: {problem}. A text that begins with one of {{[*&!%@` "
        "or has ': ' or ' #' in it has to stand in quotes"
    )


def _read_json(text: str) -> Record:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise WildcardError(
            f"line {error.lineno}: it cannot be read as JSON: {error.msg}"
        ) from error
    reader = _JsonReader(text)
    return reader.record(reader.next(), 0)


class _JsonReader:
    """Reads what is known to be JSON once more, with lines."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.finditer(text)
        self._ends = [match.end() for match in re.finditer("\n", text)]

    def next(self) -> re.Match[str]:
        return next(self._tokens)

    def record(self, token: re.Match[str], depth: int) -> Record:
        line = bisect_right(self._ends, token.start()) + 1
        _check(depth, line)
        written = token.group()
        if written == "{":
            return Record(dict(self._pairs(depth)), line)
        if written == "[":
            return Record(list(self._list(depth)), line)
        if written == "null":
            return Record(None, line)
        return Record(json.loads(written) if written[0] == '"' else written, line)

    def _pairs(self, depth: int) -> Iterator[tuple[str, Record]]:
        while (token := self.next()).group() != "}":
            if token.group() != ",":
                self.next()  # the colon
                yield json.loads(token.group()).strip(), self.record(self.next(), depth + 1)

    def _list(self, depth: int) -> Iterator[Record]:
        while (token := self.next()).group() != "]":
            if token.group() != ",":
                yield self.record(token, depth + 1)

"""Files → documents: text files with one value per line, YAML and JSON with lists in mappings."""

from __future__ import annotations

import re

from . import json_documents, yaml_documents
from .decoding import decode
from .errors import Remark
from .names import as_key
from .structured import Scalars
from .values import Document, Origin, weighted_lines

TEXT, YAML, JSON = ".txt", (".yaml", ".yml"), ".json"
SUFFIXES = (TEXT, *YAML, JSON)  # in the order in which they are looked for

_KEY = re.compile(r"""^["']?([^\s"'#:\-][^"':\n]{0,200}?)["']?\s*:(?:\s|$)""", re.MULTILINE)


def read_document(file: str, data: bytes, rules: dict[str, float]) -> tuple[Document, list[Remark]]:
    """Return a file's content, and what is not as it should be in it.

    Args:
        file: Its name below the library's folder; the suffix decides how it is read.
        data: Its bytes.
        rules: What values of structured files weigh beside what stands in the file.

    Raises:
        WildcardError: It cannot be read; the text says why, without the file's name.
    """
    text, note = decode(data)
    remarks = [Remark.of_file(note, file)] if note else []
    suffix = file[file.rfind(".") :].lower()
    if suffix == TEXT:
        return Document(file, weighted_lines(lines_of(text), Origin(file))), remarks
    scalars = Scalars(file, rules)
    reader = json_documents if suffix == JSON else yaml_documents
    root = reader.read(text, scalars)
    return Document(file, root), remarks + scalars.remarks


def lines_of(text: str) -> list[str]:
    """Return the values of a text file: its lines without blank ones and comments."""
    stripped = (line.strip() for line in text.split("\n"))
    return [line for line in stripped if line and line[0] != "#"]


def line_of(data: bytes, value: str) -> int:
    """Return the first line of a file that is or holds a value; 0 when none is found."""
    lines = decode(data)[0].split("\n")
    for exact in (True, False):
        for number, line in enumerate(lines, start=1):
            if line.strip() == value if exact else value in line:
                return number
    return 0


def outer_keys(text: str) -> set[str]:
    """Return the beginnings of keys at the left edge of a YAML file, or of all words of anything else."""
    if text.lstrip()[:1] in ("{", "["):
        words = re.findall(r'"([^"\n]{1,200})"', text)
    else:
        words = [match.group(1) for match in _KEY.finditer(text)]
    keys = set(map(as_key, words))
    return keys.union(*(_beginnings(key) for key in keys if "/" in key))


def _beginnings(key: str) -> list[str]:
    """Return `a` and `a/b` for `a/b/c`."""
    return [key[:end] for end, character in enumerate(key) if character == "/"]

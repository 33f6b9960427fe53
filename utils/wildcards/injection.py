"""New values for a YAML file of wildcards: what a person typed, what of it is new, and writing it safely."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .errors import WildcardError
from .names import normal
from .numbers import split_weight
from .yaml_edits import Edit, append_items, as_spelled, is_list, items_at, set_items

_BOM = "\ufeff"
_AROUND = 3  # lines of the file that a preview shows on both sides
MAX_ITEMS = 10_000


class ListStyle(str, Enum):
    """How a new list is written."""

    LIST = "list"
    INLINE = "inline"


@dataclass(frozen=True, slots=True)
class Injection:
    """A file with new values.

    Attributes:
        before: Its bytes as they are.
        after: Its text as it is to be.
        added: The values that are new.
        skipped: Those that are there already.
        preview: The lines around the change.
    """

    before: bytes
    after: str
    added: tuple[str, ...]
    skipped: tuple[str, ...]
    preview: str


def split_items(text: str, *, underscores: bool) -> list[str]:
    """Return the items of a text: between commas, semicolons and ends of lines, outside of {}, <> and quotes.

    Args:
        text: What was typed.
        underscores: Spaces inside items become underscores.
    """
    found: list[str] = []
    start, depth, quote = 0, 0, ""
    for index, character in enumerate(f"{text}\n"):
        if quote:
            quote = "" if character in (quote, "\n") else quote
        elif character in "\"'" and not text[start:index].strip():
            quote = character
        elif character in "{<":
            depth += 1
        elif character in "}>":
            depth = max(depth - 1, 0)
        if character == "\n" or (character in ",;" and not depth and not quote):
            found.append(text[start:index])
            start, depth = index + 1, 0
    items = [_bare(item) for item in found]
    return ["_".join(item.split()) if underscores else item for item in items if item]


def inject(
    data: bytes, items: Sequence[str], path: str, category: str, style: ListStyle
) -> Injection:
    """Put items into a file's content.

    Args:
        data: The content.
        items: What is to be in the list.
        path: Keys with dots between them, that lead to a list, or to where `category` is to be; "" is the top.
        category: A key below `path` that becomes exactly these items; "": they are added to the list at `path`.
        style: How a new list is written.

    Raises:
        WildcardError: There are no items, or there is no way to put them there.
    """
    if not items:
        raise WildcardError("There is no item to put in.", "Type some, with commas between them.")
    if len(items) > MAX_ITEMS:
        raise WildcardError(
            f"{len(items)} items are too many at once; up to {MAX_ITEMS} are put in."
        )
    text, has_bom = _decoded(data)
    keys = [key.strip() for key in path.split(".") if key.strip()]
    category = category.strip()
    keys = as_spelled(text, keys)
    if not keys and not category and not is_list(text):
        raise WildcardError(
            "target_path is empty, and the top of the file is no list.",
            "Name a list of the file in target_path, or a new one in new_category.",
        )
    inline = style is ListStyle.INLINE
    if category:
        wanted = _different(items, ())
        edit = set_items(text, [*keys, category], wanted, inline=inline)
        before = wanted
    else:
        there = items_at(text, keys) or []
        wanted = _different(items, there)
        before = _different(items, ())
        edit = append_items(text, keys, wanted, inline=inline) if wanted else Edit(text, 0, 0)
    skipped = [item for item in before if item not in wanted]
    after = f"{_BOM if has_bom else ''}{edit.text}"
    return Injection(data, after, tuple(wanted), tuple(skipped), _around(edit))


def write(path: Path, injection: Injection) -> Path:
    """Write a file as it is to be, all of it or nothing; return the copy of what it was.

    Raises:
        WildcardError: It has changed meanwhile, or cannot be written.
    """
    backup = path.with_name(f"{path.name}.bak")
    try:
        if path.read_bytes() != injection.before:
            raise WildcardError(f"'{path.name}' has changed meanwhile.", "Run the node again.")
        shutil.copy2(path, backup)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(injection.after.encode())
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(path, part)
            os.replace(part, path)
        except BaseException:  # boundary: also when interrupted, no part may stay; raised again
            os.unlink(part)
            raise
    except OSError as error:
        raise WildcardError(
            f"'{path.name}' cannot be written: {error.strerror or error}.",
            "Check the permissions of the file and of its folder.",
        ) from error
    return backup


def _decoded(data: bytes) -> tuple[str, bool]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WildcardError(
            f"The file is not UTF-8 (line {line}), so it is not changed.", "Save it as UTF-8 first."
        ) from error
    return text.removeprefix(_BOM), text.startswith(_BOM)


def _bare(item: str) -> str:
    item = item.strip()
    if len(item) >= 2 and item[0] == item[-1] and item[0] in "\"'":
        return item[1:-1].strip()
    return item.strip("\"'").strip()


def _different(items: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the items that are not there yet, each once; case and weights make no difference."""
    known = set(map(_compared, there))
    found = []
    for item in items:
        if _compared(item) not in known:
            known.add(_compared(item))
            found.append(item)
    return found


def _compared(item: str) -> str:
    weighted = split_weight(item)
    return normal((weighted[1] if weighted else item).strip())


def _around(edit: Edit) -> str:
    """Return the lines of a change, with some before and after it."""
    first = edit.text.count("\n", 0, edit.start)
    last = edit.text.count("\n", 0, edit.end)
    lines = edit.text.splitlines()
    return "\n".join(lines[max(first - _AROUND, 0) : last + _AROUND + 1])

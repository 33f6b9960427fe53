"""The name that was probably meant, for one that is not there."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Sequence

from .folders import Folder
from .names import normal
from .values import Branch, Document, Part

MAX_LOOKED_AT = 500  # names that are compared letter by letter
_CUTOFF = 0.7


def meant(
    folders: Sequence[Folder],
    parts: Sequence[str],
    read: Callable[[Folder, str], Document | None],
) -> str:
    """Return the name that is most like one that there is not; "" when none is like it.

    Looked for among the files of the same folder, among the keys of the file that the name begins with, and
    at last among the files of all folders.
    """
    for folder in folders:
        levels = list(folder.along(parts[:-1]))
        for depth in reversed(range(len(levels))):
            inside, listing = levels[depth]
            stem, keys = parts[depth], parts[depth + 1 :]
            for file in listing.names(stem) if keys else ():
                document = read(folder, f"{inside}/{file}" if inside else file)
                found = "" if document is None else _key_like(document, keys)
                if found:
                    return "/".join((*parts[: depth + 1], found))
            found = "" if stem in listing.files else closest(stem, listing.files)
            if found:
                return "/".join((*parts[:depth], found, *keys))
    walked = (listing for folder in folders for _, listing in folder.walk())
    return closest(parts[-1], (stem for listing in walked for stem in listing.files))


def _key_like(document: Document, keys: Sequence[str]) -> str:
    """Return a path of keys that is like one that a file does not have."""
    part: Part = document.root
    for number, key in enumerate(keys):
        if not isinstance(part, Branch):
            return ""
        child = part.child(key)
        if child is None:
            found = closest(key, part.children)
            return "/".join((*keys[:number], found, *keys[number + 1 :])) if found else ""
        part = child
    return ""


def closest(name: str, names: Iterable[str]) -> str:
    """Return the name that is most like another one; "" when none is like it.

    Comparing takes its time, so of very many names those are left out first that cannot be like it: of
    another length, or with other letters at the beginning and at the end.
    """
    wanted = normal(name)
    spread = max(1, len(wanted) // 4)
    low, high = len(wanted) - spread, len(wanted) + spread
    ends = wanted[:1], wanted[-1:]
    likely: dict[str, str] = {}
    for candidate in names:
        if not low <= len(candidate) <= high:
            continue
        compared = normal(candidate)
        if compared[:1] == ends[0] or compared[-1:] == ends[1]:
            likely.setdefault(compared, candidate)
    letters = 1
    while len(likely) > MAX_LOOKED_AT and letters < len(wanted):
        letters += 1
        begin, end = wanted[:letters], wanted[-letters:]
        kept = {n: c for n, c in likely.items() if n.startswith(begin) or n.endswith(end)}
        if not kept:
            break
        likely = kept
    likely = dict(itertools.islice(likely.items(), MAX_LOOKED_AT))
    found = difflib.get_close_matches(wanted, likely, 1, _CUTOFF)
    return likely[found[0]] if found else ""

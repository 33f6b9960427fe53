"""All files of a library by name, kept until a directory changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .folders import Folder, Listing
from .names import normal

_LAST_CHARACTER = chr(0x10FFFF)


class IndexEntry(NamedTuple):
    """A file of a library: how it is referred to, and where it is."""

    name: str
    file: str


@dataclass(frozen=True, slots=True)
class IndexPage:
    """A part of a library's index, and how many entries there are in all."""

    total: int
    entries: tuple[IndexEntry, ...]


class Index:
    """The list of all files. A page costs a look at each directory, and no more while none has changed.

    Args:
        folders: The library's; of several files with one name the first counts.
    """

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._folders = folders
        self._listings: list[Listing] = []
        self._names: list[str] = []
        self._entries: list[IndexEntry] = []

    def page(self, start: str, offset: int, limit: int) -> IndexPage:
        """Return a part of the files whose names, as they are compared, begin with `start`."""
        self._refresh()
        first = bisect_left(self._names, start)
        last = bisect_left(self._names, start + _LAST_CHARACTER, first)
        begin = min(first + max(offset, 0), last)
        page = self._entries[begin : min(begin + max(limit, 0), last)]
        return IndexPage(last - first, tuple(page))

    def _refresh(self) -> None:
        walked = [each for folder in self._folders for each in folder.walk()]
        before, now = self._listings, [listing for _, listing in walked]
        if len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True)):
            return
        first: dict[str, IndexEntry] = {}
        for inside, listing in walked:
            for _, file in listing.all_files():
                path = f"{inside}/{file}" if inside else file
                name = path[: path.rfind(".")]
                first.setdefault(normal(name), IndexEntry(name, path))
        self._names = sorted(first)
        self._entries = [first[name] for name in self._names]
        self._listings = now

"""A library's folders on disk: listings that are read when they are needed, and again when they change.

Nothing outside a folder is ever listed: links that lead out of it are left out and said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from .documents import SUFFIXES
from .errors import Remark
from .names import dashed, normal

RULES_FILE = "wildcard_rules.yaml"
_HAS_JUNCTIONS = os.name == "nt"  # links to folders that do not say that they are links
# A file system may count times in steps of 2 s, so a change right after a reading may not show.
UNSETTLED_NS = 2_000_000_000

Signature = tuple[int, int, int]  # mtime in ns, size, inode


def signature_of(path: str) -> Signature | None:
    """Return what changes when a file or folder changes; None when it is gone."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def is_settled(signature: Signature) -> bool:
    """Would a later change certainly show in the signature?"""
    return time.time_ns() - signature[0] > UNSETTLED_NS


class Listing:
    """What is in one directory.

    Attributes:
        files: Name without suffix, as it is compared → names of files, in the order of SUFFIXES.
        folders: Name, as it is compared → name.
        structured: The files that have keys, in order.
        remarks: What was left out, and why.
    """

    def __init__(self, path: str, root: str, inside: str) -> None:
        self.files: dict[str, str | list[str]] = {}
        self.folders: dict[str, str] = {}
        self.structured: list[str] = []
        self.remarks: list[Remark] = []
        names: list[str] = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == "." or name == RULES_FILE:
                    continue
                is_folder = entry.is_dir()
                if entry.is_symlink() or (_HAS_JUNCTIONS and is_folder):
                    reason = _why_left_out(entry, root, is_folder)
                    if reason:
                        shown = f"{inside}/{name}" if inside else name
                        self.remarks.append(Remark(reason, shown))
                        continue
                if is_folder:
                    self._add_folder(name)
                elif name.endswith(SUFFIXES) or name.lower().endswith(SUFFIXES):
                    names.append(name)
        names.sort()
        self._add_files(names)

    def names(self, stem: str) -> list[str]:
        """Return the files of a name; where there is none, a hyphen stands for a space too."""
        found = self.files.get(stem)
        if found is None and "-" in stem:
            found = self.files.get(self._spaced.get(dashed(stem), ""))
        return [found] if isinstance(found, str) else found or []

    def folder(self, key: str) -> str | None:
        """Return the folder of a name; a hyphen stands for a space too."""
        found = self.folders.get(key)
        if found is None and "-" in key:
            found = self.folders.get(self._spaced.get(dashed(key), ""))
        return found

    @cached_property
    def _spaced(self) -> dict[str, str]:
        """Names with hyphens → as they are, of those that have spaces in them."""
        return {dashed(name): name for name in (*self.folders, *self.files) if " " in name}

    def all_files(self) -> Iterator[tuple[str, str]]:
        """Yield (name as it is compared, file) in order."""
        for stem in sorted(self.files):
            for name in self.names(stem):
                yield stem, name

    def is_like(self, other: Listing) -> bool:
        """Are the same names in both?"""
        return self.files == other.files and self.folders == other.folders

    def _add_files(self, names: list[str]) -> None:
        files = self.files
        for name in names:
            stem, _, suffix = name.rpartition(".")
            stem = stem.lower() if stem.isascii() else normal(stem)
            if suffix != "txt" and suffix.lower() != "txt":
                self.structured.append(name)
            before = files.setdefault(stem, name)
            if before is not name:
                both = [*([before] if isinstance(before, str) else before), name]
                files[stem] = sorted(both, key=_rank)

    def _add_folder(self, name: str) -> None:
        key = normal(name)
        self.folders[key] = min(name, self.folders.get(key, name))


def _why_left_out(entry: os.DirEntry[str], root: str, is_folder: bool) -> str:
    """Return why a link is not followed; "" when it may be."""
    target = os.path.realpath(entry.path)
    if not os.path.exists(target):
        return "this link leads to nothing, so it is left out."
    if target != root and not is_inside(target, root):
        return (
            "this link leads out of the folder, so it is left out. Put what it points to here, or name "
            "that folder as 'wildcards' in extra_model_paths.yaml."
        )
    if is_folder and entry.is_symlink():
        return (
            "this link leads to another folder of the library, where everything is found already."
        )
    return ""


def is_inside(path: str, root: str) -> bool:
    """Is a real path below a real folder?"""
    path, root = os.path.normcase(path), os.path.normcase(root)
    return path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _rank(name: str) -> tuple[int, str]:
    return SUFFIXES.index(name[name.rfind(".") :].lower()), name


class Folder:
    """One folder of a library, with everything below it.

    Attributes:
        changes: Counts directories that were not as they had been when they were looked at before.
    """

    def __init__(self, path: Path) -> None:
        self.path = os.path.realpath(path)
        self._listings: dict[str, tuple[Signature, bool, Listing]] = {}
        self._missing: set[str] = set()  # directories that were looked for in vain
        self.changes = 0

    def listing(self, inside: str) -> Listing | None:
        """Return what is in a directory below the folder, as it is now; None when it is gone.

        Args:
            inside: Its path below the folder, with `/`; "" for the folder itself.
        """
        path = self.full(inside)
        signature = signature_of(path)
        known = self._listings.get(inside)
        if signature is None:
            self.changes += self._listings.pop(inside, None) is not None
            self._missing.add(inside)
            return None
        if known is not None and known[0] == signature and known[1]:
            return known[2]
        settled = is_settled(signature)
        try:
            listing = Listing(path, self.path, inside)
        except OSError:
            return None
        if inside in self._missing or (known is not None and not listing.is_like(known[2])):
            self._missing.discard(inside)
            self.changes += 1
        self._listings[inside] = (signature, settled, listing)
        return listing

    def look_again(self) -> None:
        """Look at every directory that was looked at before, so that `changes` counts what has changed."""
        for inside in [*self._listings, *self._missing]:
            self.listing(inside)

    def along(self, parts: Sequence[str]) -> Iterator[tuple[str, Listing]]:
        """Yield (path, listing) of the folder and of the directories that the parts name."""
        inside = ""
        listing = self.listing("")
        for part in (*parts, ""):
            if listing is None:
                return
            yield inside, listing
            name = listing.folder(part)
            if name is None:
                return
            inside = f"{inside}/{name}" if inside else name
            listing = self.listing(inside)

    def full(self, inside: str) -> str:
        """Return a path below the folder as the system knows it."""
        return os.path.join(self.path, *inside.split("/")) if inside else self.path

    def walk(self, start: str = "", levels: int | None = None) -> Iterator[tuple[str, Listing]]:
        """Yield (path, listing) of a directory and everything below, in order.

        Args:
            start: Its path below the folder.
            levels: How many levels below `start` to go; None: all.
        """
        waiting = [(start, 0)]
        while waiting:
            inside, level = waiting.pop()
            listing = self.listing(inside)
            if listing is None:
                continue
            yield inside, listing
            if levels is None or level < levels:
                below = [listing.folders[key] for key in sorted(listing.folders, reverse=True)]
                waiting += [(f"{inside}/{name}" if inside else name, level + 1) for name in below]

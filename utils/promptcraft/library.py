"""Folders of categories and rules on disk, and texts that hold some too.

Everything is read again when its time, size or inode has changed. Folders whose name begins with `_` or
`!`, hidden files and whatever lies outside a folder are left out.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..wildcards.decoding import decode
from ..wildcards.errors import Remark, WildcardError
from ..wildcards.folders import Folder, Signature, is_inside, is_settled, signature_of
from ..wildcards.library import Library
from ..wildcards.names import normal
from .content import Content, RuleFile
from .items import Category, read_category
from .kinds import Kind, kind_of_header, kind_of_name
from .records import Record, Source, read_records

SUFFIXES = (".yaml", ".yml", ".json")
INLINE = "inline data"
_PEEK = 4096  # bytes in which the first lines are looked for
_OTHERS = {"connections.json"}  # it lies in the same folder, and is no category


class _File(NamedTuple):
    """A file of a folder; `name` has its folder in front and no suffix."""

    folder: Folder
    inside: str
    name: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class _Known:
    signature: Signature
    settled: bool
    kind: Kind
    base: str


class _Shelf(NamedTuple):
    """What is being put together: see Content; `whose` says which file a category is from."""

    readers: dict[str, Callable[[], Category]]
    aliases: dict[str, str]
    whose: dict[str, str]
    rules: list[RuleFile]
    remarks: list[Remark]


class CraftLibrary:
    """Categories and rules. May be used from several threads, and kept for as long as one likes.

    Args:
        folders: Where the files are; of files that have the same name, the first counts.
        inline: YAML with a key for each file, such as `hats:` and `hats.constraint:`.
    """

    def __init__(self, folders: Iterable[Path | str] = (), inline: str = "") -> None:
        paths = [Path(folder) for folder in folders]
        self.wildcards = Library(paths)
        self.folders = tuple(str(path) for path in paths)
        self._folders = [Folder(path) for path in paths]
        self._inline = inline
        self._kinds: dict[str, _Known] = {}
        self._records: dict[str, tuple[Signature, bool, Record, list[Remark]]] = {}
        self._content: tuple[object, Content] | None = None
        self._lock = threading.RLock()

    def content(self) -> Content:
        """Return what there is now.

        Raises:
            WildcardError: The inline data cannot be read.
        """
        with self._lock:
            files = list(self._files())
            state = tuple((file.folder.path, file.inside, file.signature) for file in files)
            settled = all(is_settled(file.signature) for file in files)
            if self._content is None or self._content[0] != state:
                self._content = (state if settled else None, self._build(files))
            return self._content[1]

    def stamp(self) -> list[list[str | int]]:
        """Return what changes when any file does."""
        with self._lock:
            return [[file.inside, *file.signature] for file in self._files()]

    def _files(self) -> Iterator[_File]:
        for folder in self._folders:
            for inside, listing in folder.walk():
                if any(part[:1] in ("_", "!") for part in inside.split("/")):
                    continue
                for _, file in listing.all_files():
                    path = f"{inside}/{file}" if inside else file
                    if not file.lower().endswith(SUFFIXES) or file.lower() in _OTHERS:
                        continue
                    signature = signature_of(folder.full(path))
                    if signature is not None:
                        yield _File(folder, path, path[: path.rfind(".")], signature)

    def _build(self, files: list[_File]) -> Content:
        self._forget_gone({file.folder.full(file.inside) for file in files})
        shelf = _Shelf({}, {}, {}, [], [])
        self._add_inline(shelf)
        for file in files:
            try:
                known = self._kind(file)
                if known.kind is Kind.CATEGORY:
                    self._add_category(file, shelf)
                    continue
                record = self._record(file, shelf.remarks)
                shelf.rules.append(RuleFile(known.kind, known.base, record, file.inside))
            except WildcardError as error:
                shelf.remarks.append(Remark(f"{error.message}.", file.inside))
        return Content(shelf.readers, shelf.aliases, shelf.rules, shelf.remarks)

    def _forget_gone(self, there: set[str]) -> None:
        for path in self._kinds.keys() - there:
            del self._kinds[path]
            self._records.pop(path, None)

    def _add_inline(self, shelf: _Shelf) -> None:
        if not self._inline.strip():
            return
        source = Source(INLINE)
        try:
            root = read_records(self._inline, source)
        except WildcardError as error:
            raise WildcardError(f"{INLINE}: {error.message}.") from error
        shelf.remarks.extend(source.remarks)
        if not root.fields:
            raise WildcardError(
                f"{INLINE}: it is no mapping.", "Write it as 'hats:' and a list below."
            )
        for name, record in root.fields.items():
            kind, base = kind_of_name(name)
            if kind is Kind.CATEGORY:
                shelf.readers[normal(name)] = functools.partial(_read_inline, name, record)
                shelf.whose[normal(name)] = INLINE
            else:
                shelf.rules.append(RuleFile(kind, base, record, INLINE))

    def _add_category(self, file: _File, shelf: _Shelf) -> None:
        """List a category under its own name if that is free, and under that with its folder."""
        short, full = normal(file.name.rpartition("/")[2]), normal(file.name)
        free = short not in shelf.readers
        if not free:
            hint = f" Write '{{{file.name}}}' for this one." if full != short else ""
            message = f"'{short}' is what {shelf.whose[short]} is called already.{hint}"
            shelf.remarks.append(Remark(message, file.inside))
        name = short if free else full
        if name in shelf.readers:
            return
        shown = file.name if not free else file.name.rpartition("/")[2]
        shelf.readers[name] = functools.partial(self._read_category, file, shown)
        shelf.whose[name] = file.inside
        shelf.aliases.setdefault(full, name)

    def _read_category(self, file: _File, name: str) -> Category:
        remarks: list[Remark] = []
        try:
            with self._lock:
                record = self._record(file, remarks)
            return read_category(name, record, Source(file.inside))
        except WildcardError as error:
            raise WildcardError(
                f"The category '{name}' cannot be used: {file.inside}: {error.message}."
            ) from error

    def _kind(self, file: _File) -> _Known:
        path = file.folder.full(file.inside)
        known = self._kinds.get(path)
        if known is not None and known.settled and known.signature == file.signature:
            return known
        kind, base = kind_of_name(file.name.rpartition("/")[2])
        if kind is Kind.CATEGORY:
            # Without null bytes, the first lines of UTF-16 are to be read too.
            head = _bytes_of(file, _PEEK).decode("utf-8", "replace").replace("\0", "")
            kind = kind_of_header(head)
        known = _Known(file.signature, is_settled(file.signature), kind, base)
        self._kinds[path] = known
        return known

    def _record(self, file: _File, remarks: list[Remark]) -> Record:
        path = file.folder.full(file.inside)
        known = self._records.get(path)
        if known is None or not known[1] or known[0] != file.signature:
            text, note = decode(_bytes_of(file))
            source = Source(file.inside)
            record = read_records(text, source)
            said = ([Remark(f"{note}.", file.inside)] if note else []) + source.remarks
            known = (file.signature, is_settled(file.signature), record, said)
            self._records[path] = known
        remarks += known[3]
        return known[2]


def _read_inline(name: str, record: Record) -> Category:
    try:
        return read_category(name, record, Source(INLINE))
    except WildcardError as error:
        raise WildcardError(
            f"The category '{name}' cannot be used: {INLINE}: {error.message}."
        ) from error


def _bytes_of(file: _File, limit: int = -1) -> bytes:
    path = file.folder.full(file.inside)
    if not is_inside(os.path.realpath(path), file.folder.path):
        raise WildcardError("it lies outside the folder, so it is not read")
    try:
        with open(path, "rb") as opened:
            return opened.read(limit)
    except OSError as error:
        raise WildcardError(f"it cannot be read: {error.strerror or error}") from error

"""Folders of wildcards: from a name to values. Nothing is read before it is asked for.

A name is looked up in the folders in their order. In a folder, `a/b/c` is, in this order: the file a/b/c;
the keys of a structured file (a/b.yaml: c, then a.yaml: b.c); the keys of any structured file beside
(`a/*.yaml: b.c`, as other engines have it); and at last the same at any depth (`**/a/b/c`).

Files and directories are read again when their time, size or inode has changed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .decoding import decode
from .documents import TEXT, line_of, outer_keys, read_document
from .errors import Remark, WildcardError
from .folders import RULES_FILE, Folder, Listing, Signature, is_inside, is_settled, signature_of
from .globbing import Pattern, has_brackets, has_glob
from .indexing import Index, IndexPage
from .names import as_key, dashed, normal, parts_of
from .structured import rules_from
from .suggesting import meant
from .values import Document, Origin, Values, joined

MAX_JOINED = 256  # patterns of which the values are kept together
MAX_HELD_BYTES = 512 * 2**20  # of files on disk; in memory they take a few times as much
MAX_ANSWERS = 100_000
MAX_REMEMBERED = 4_000_000  # characters of a file in which words are looked for

Parts = Sequence[str]


@dataclass(slots=True, eq=False)
class _Known:
    """A file as it was read: its document, or why it has none.

    `rules` is the wildcard_rules.yaml that gave its values weights.
    """

    signature: Signature
    settled: bool
    document: Document | None
    remarks: list[Remark]
    rules: _Known | None = None


class Library:
    """Wildcards in folders. May be used from several threads, and kept for as long as one likes.

    Args:
        folders: Where the files are; earlier ones win.
    """

    def __init__(self, folders: Iterable[Path | str] = ()) -> None:
        self._folders = [Folder(Path(folder)) for folder in folders]
        self._files: dict[str, _Known] = {}
        self._joined: dict[str, tuple[list[Values], Values]] = {}
        self._answers: dict[tuple[str, str], tuple[Signature, bool]] = {}
        self._index = Index(self._folders)
        self._generation = 0
        self._held = 0  # bytes of files in memory, or more: what was read twice counts twice
        self._lock = threading.RLock()

    def find(self, name: str, remarks: list[Remark], *, crossing: bool = False) -> Values | None:
        """Return the values of a name or pattern; None when there are none.

        Args:
            name: As it stands between underscores. A slash in front means the top of the library.
            remarks: Gets what was wrong with the files that were looked into.
            crossing: `*` matches `/` too; else it does so only where nothing is found otherwise.
        """
        parts = parts_of(name.lstrip("/\\"))
        if parts is None:
            return None
        with self._lock:
            if has_glob(name):
                found = self._matching(Pattern(parts, crossing=crossing), remarks)
                if found is None and not crossing:
                    found = self._matching(Pattern(parts, crossing=True), remarks)
                return found
            for folder in self._folders:
                found = self._in_folder(folder, parts, remarks)
                if found is not None:
                    return found
            found = self._matching(Pattern(parts), remarks) if has_brackets(name) else None
            return found or self._matching(Pattern(("**", *parts)), remarks)

    def document(self, name: str, remarks: list[Remark]) -> Document | None:
        """Return the file of a name, such as `characters` or `people/characters`."""
        parts = parts_of(name)
        if parts is None or has_glob(name):
            return None
        with self._lock:
            for folder in self._folders:
                levels = list(folder.along(parts[:-1]))
                if len(levels) < len(parts):
                    continue
                inside, listing = levels[-1]
                for file in listing.names(parts[-1]):
                    document = self._read(folder, _below(inside, file), remarks)
                    if document is not None:
                        return document
        return None

    def document_of(self, path: Path, remarks: list[Remark]) -> Document | None:
        """Return a file below one of the folders; None when there is none, or it cannot be read."""
        real = os.path.realpath(path)
        with self._lock:
            for folder in self._folders:
                if is_inside(real, folder.path):
                    inside = os.path.relpath(real, folder.path).replace(os.sep, "/")
                    return self._read(folder, inside, remarks)
        return None

    def suggest(self, name: str) -> str:
        """Return a name that there is and that is much like one that there is not; "" when there is none.

        Looked for among the files of the same folder, then of all folders, and among the keys of the file
        that the name begins with.
        """
        parts = parts_of(name)
        if parts is None or has_glob(name):
            return ""
        with self._lock:
            return meant(self._folders, parts, lambda folder, file: self._read(folder, file, []))

    def structured_files(self) -> Iterator[str]:
        """Yield every file that has keys; directories are looked at while one goes on."""
        for folder in self._folders:
            for inside, listing in folder.walk():
                yield from (_below(inside, file) for file in listing.structured)

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield (name, file) of every file, in the order of the folders and names."""
        for folder in self._folders:
            with self._lock:
                found = [
                    (_below(inside, file[: file.rfind(".")]), _below(inside, file))
                    for inside, listing in folder.walk()
                    for _, file in listing.all_files()
                ]
            yield from found

    def index(self, start: str = "", offset: int = 0, limit: int = 100) -> IndexPage:
        """Return a part of the list of all files whose names begin with `start`.

        The list is made anew when a directory has changed; else a page costs a look at each directory.
        """
        with self._lock:
            return self._index.page(normal(start.replace("\\", "/")), offset, limit)

    def generation(self) -> int:
        """Return a number that changes when anything that was looked at has changed on disk."""
        with self._lock:
            seen = {path: known.signature for path, known in self._files.items()}
            seen |= {path: answer[0] for (path, _), answer in self._answers.items()}
            if any(signature_of(path) != before for path, before in seen.items()):
                self._forget()
            for folder in self._folders:
                folder.look_again()
            return self._generation + sum(folder.changes for folder in self._folders)

    def read_all(self) -> Iterator[tuple[str, Document | None, list[Remark]]]:
        """Read every file; yield its name, what is in it, and what is wrong with it."""
        for folder in self._folders:
            for inside, listing in folder.walk():
                yield inside or ".", None, list(listing.remarks)
                for _, file in listing.all_files():
                    remarks: list[Remark] = []
                    with self._lock:
                        document = self._read(folder, _below(inside, file), remarks)
                    yield _below(inside, file), document, remarks

    def locate(self, values: Values, index: int) -> Origin:
        """Return the file and line in which a value is written."""
        origin = values.origin(index)
        if origin.line:
            return origin
        for folder in self._folders:
            try:
                with open(folder.full(origin.file), "rb") as file:
                    return Origin(origin.file, line_of(file.read(), values.texts[index]))
            except (OSError, WildcardError):
                continue  # it is in another folder, or gone since
        return origin

    def _forget(self) -> None:
        """Drop what was read; whoever kept a result has to ask again."""
        self._generation += 1
        self._files.clear()
        self._answers.clear()
        self._held = 0

    # One folder

    def _in_folder(self, folder: Folder, parts: Parts, remarks: list[Remark]) -> Values | None:
        levels = list(folder.along(parts[:-1]))
        for depth in reversed(range(len(levels))):
            inside, listing = levels[depth]
            for file in listing.names(parts[depth]):
                found = self._in_file(folder, _below(inside, file), parts[depth + 1 :], remarks)
                if found is not None:
                    return found
        for depth in reversed(range(len(levels))):
            inside, listing = levels[depth]
            found = self._in_files_beside(folder, inside, listing, parts[depth:], remarks)
            if found is not None:
                return found
        return None

    def _in_file(
        self, folder: Folder, file: str, keys: Parts, remarks: list[Remark]
    ) -> Values | None:
        if keys and file.lower().endswith(TEXT):
            return None
        document = self._read(folder, file, remarks)
        values = document.find(keys) if document is not None else None
        if values is not None and not values.texts:
            below = f" below '{'/'.join(keys)}'" if keys else ""
            remarks.append(Remark(f"there are no values{below} in it.", file))
            return None
        return values

    def _in_files_beside(
        self, folder: Folder, inside: str, listing: Listing, keys: Parts, remarks: list[Remark]
    ) -> Values | None:
        for file in listing.structured:
            path = _below(inside, file)
            if self._has_key(folder, path, keys[0]):
                found = self._in_file(folder, path, keys, remarks)
                if found is not None:
                    return found
        return None

    # Patterns

    def _matching(self, pattern: Pattern, remarks: list[Remark]) -> Values | None:
        """Return the values of all names that fit, as one list."""
        lists: dict[int, Values] = {}
        for folder in self._folders:
            for path, document, keys in self._candidates(folder, pattern, remarks):
                whole = document.find(())
                found = [whole] if whole is not None else []
                if keys:
                    names = [tuple(map(dashed, name)) for name in path]
                    fits, ending = pattern.fits_dashed, pattern.ending
                    found = document.matching(pattern.key, fits, ending, names)
                lists.update({id(values): values for values in found})
        if not lists:
            return None
        parts = list(lists.values())
        known = self._joined.get(pattern.text)
        if known is None or not _same(known[0], parts):
            if len(self._joined) >= MAX_JOINED:
                self._joined.clear()
            known = self._joined[pattern.text] = (parts, joined(parts))
        return known[1]

    def _candidates(
        self, folder: Folder, pattern: Pattern, remarks: list[Remark]
    ) -> Iterator[tuple[list[Parts], Document, bool]]:
        """Yield (names that it goes by, document, whether by keys) of files that may hold a match."""
        last = pattern.last
        for inside, listing in self._directories(folder, pattern):
            above = tuple(map(normal, inside.split("/"))) if inside else ()
            stems = sorted(listing.files) if last is None else [last]
            for stem in stems:
                for file in listing.names(stem):
                    if file.lower().endswith(TEXT) and pattern.fits((*above, stem)):
                        document = self._read(folder, _below(inside, file), remarks)
                        if document is not None:
                            yield [(*above, stem)], document, False
            for file in listing.structured:
                stem, path = normal(file[: file.rfind(".")]), _below(inside, file)
                whole = pattern.fits((*above, stem))
                if whole or last is None or self._mentions(folder, path, last):
                    document = self._read(folder, path, remarks)
                    if document is not None:
                        names: list[Parts] = [(*above, stem)]
                        names += [] if whole else [above]
                        yield names, document, not whole

    def _directories(self, folder: Folder, pattern: Pattern) -> Iterator[tuple[str, Listing]]:
        """Yield the directories below which a name can fit: those under the fixed beginning."""
        reached = list(folder.along(pattern.folder))
        if len(reached) <= len(pattern.folder):
            yield from reached
            return
        yield from reached[:-1]
        yield from folder.walk(reached[-1][0], pattern.levels)

    # Files

    def _read(self, folder: Folder, file: str, remarks: list[Remark]) -> Document | None:
        known = self._known(folder, file)
        if known is None:
            return None
        remarks += known.remarks
        return known.document

    def _known(self, folder: Folder, file: str) -> _Known | None:
        path = folder.full(file)
        signature = signature_of(path)
        if signature is None:
            if self._files.pop(path, None) is not None:
                self._generation += 1
            return None
        known = self._files.get(path)
        rules = self._rules(folder, file)
        if known is not None:
            is_same = known.signature == signature and known.rules is rules
            if is_same and known.settled:
                return known
            self._generation += not is_same
        settled = is_settled(signature)
        data, problem = self._bytes_of(folder, path)
        document: Document | None = None
        remarks: list[Remark] = []
        if data is not None:
            try:
                weights = rules_from(rules.document.root) if rules and rules.document else {}
                document, remarks = read_document(file, data, weights)
            except WildcardError as error:
                problem = error.message
        if problem:
            remarks = [Remark.of_file(problem, file)]
        known = self._files[path] = _Known(signature, settled, document, remarks, rules)
        self._forget_old(signature[1])
        return known

    def _forget_old(self, added: int) -> None:
        """Keep files in memory up to a size; those that were read first go first."""
        self._held += added
        if self._held > MAX_HELD_BYTES:
            self._generation += 1  # changes of what is forgotten would not be noticed
            for path in list(self._files)[: len(self._files) // 2]:
                del self._files[path]
            self._held = sum(known.signature[1] for known in self._files.values())

    def _bytes_of(self, folder: Folder, path: str) -> tuple[bytes | None, str]:
        if not is_inside(os.path.realpath(path), folder.path):
            return None, "it lies outside the folder, so it is not read"
        try:
            with open(path, "rb") as file:
                return file.read(), ""
        except OSError as error:
            return None, f"it cannot be read: {error.strerror or error}"

    def _rules(self, folder: Folder, file: str) -> _Known | None:
        """Return the wildcard_rules.yaml of the folder, if a file gets weights from it."""
        if file == RULES_FILE or file.lower().endswith(TEXT):
            return None
        return self._known(folder, RULES_FILE)

    def _has_key(self, folder: Folder, file: str, key: str) -> bool:
        """Can a structured file have this outermost key? Seen without parsing it."""
        return self._seen(folder, file, f"{key}:", lambda text: as_key(key) in outer_keys(text))

    def _mentions(self, folder: Folder, file: str, word: str) -> bool:
        """Can a word stand anywhere in a file? It does not show where letters are written as numbers."""
        return self._seen(
            folder, file, word, lambda text: dashed(word) in _compared(text) or "\\u" in text
        )

    def _seen(self, folder: Folder, file: str, question: str, look: Callable[[str], bool]) -> bool:
        """Answer a question about a file's text, once for each version of the file."""
        path = folder.full(file)
        signature = signature_of(path)
        if signature is None:
            return False
        known = self._answers.get((path, question))
        if known is not None and known[0] == signature and is_settled(signature):
            return known[1]
        data, _ = self._bytes_of(folder, path)
        try:
            answer = data is None or look(decode(data)[0])
        except WildcardError:
            answer = True  # reading it as a whole says what is wrong
        if known is not None and known[0] != signature:
            self._generation += 1
        if len(self._answers) >= MAX_ANSWERS:
            self._generation += 1
            self._answers.clear()
        self._answers[path, question] = (signature, answer)
        return answer


def _compared(text: str) -> str:
    """Return a file's text as words of it are compared."""
    return _remembered(text) if len(text) <= MAX_REMEMBERED else dashed(normal(text))


@lru_cache(maxsize=4)
def _remembered(text: str) -> str:
    return dashed(normal(text))


def _below(inside: str, name: str) -> str:
    return f"{inside}/{name}" if inside else name


def _same(first: Sequence[Values], second: Sequence[Values]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))

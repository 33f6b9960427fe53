"""What is wrong in a folder of wildcards: everything that would be noticed only when it is drawn."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, NamedTuple

from .dialects import LUNA, Dialect
from .errors import Remark, WildcardError
from .library import Library
from .names import normal
from .parser import parse
from .resolving import Found, Resolver
from .sampler import looks_like_path
from .tree import FilePick, Node, Reference, Slot
from .values import TEMPLATES, Document, Origin, Values

MAX_CHAIN = 200  # names from one to the next, when a ring is looked for


_List = tuple[str, str]  # file, path of keys in it


class _Written(NamedTuple):
    """A name, and where it is written."""

    node: Reference | FilePick | Slot
    document: Document
    values: Values
    number: int  # of the value in its list
    slots: bool


def lint(library: Library, dialect: Dialect = LUNA) -> list[Remark]:
    """Return everything that is wrong, by file and line."""
    linter = _Linter(library, dialect)
    linter.read()
    linter.check_names()
    linter.check_rings()
    return sorted(dict.fromkeys(linter.remarks), key=lambda remark: (remark.file, remark.line))


class _Linter:
    def __init__(self, library: Library, dialect: Dialect) -> None:
        self.library = library
        self.dialect = dialect
        self.resolver = Resolver(library, dialect)
        self.remarks: list[Remark] = []
        self._names: list[_Written] = []
        self._paths: dict[str, list[str]] = {}  # file → paths of its lists
        self._leads_to: dict[_List, dict[_List, _Written]] = {}

    def read(self) -> None:
        """Parse every value of every file."""
        spellings: dict[str, str] = {}
        for file, document, remarks in self.library.read_all():
            self.remarks += remarks
            if document is None:
                continue
            name = normal(file[: file.rfind(".")])
            if name in spellings:
                message = f"'{spellings[name]}' has the same name; this file is only used where that has nothing."
                self.remarks.append(Remark(message, file))
            spellings.setdefault(name, file)
            for path, values in document.lists():
                self._paths.setdefault(file, []).append(values.path)
                self._read_list(document, values, slots=path[:1] == (TEMPLATES,))
            self._paths.setdefault(file, []).sort()

    def _read_list(self, document: Document, values: Values, slots: bool) -> None:
        first = values.origins if isinstance(values.origins, Origin) else values.origins[0]
        if not values.texts:
            self._remark(document, first.line, f"{_shown(values)} has no values.")
        elif not values.drawable:
            message = f"all weights of {_shown(values)} are 0, so it is never drawn."
            self._remark(document, first.line, message)
        for index, text in enumerate(values.texts):
            try:
                template = parse(text, self.dialect, slots)
            except WildcardError as error:
                self._remark(document, self._line(values, index), error.message)
                continue
            for remark in template.remarks:
                self._remark(document, self._line(values, index), remark.message)
            for node in _names_in(template.root):
                self._names.append(_Written(node, document, values, index, slots))

    def check_names(self) -> None:
        """Look up every name that is written without a choice in it."""
        for written in self._names:
            node = written.node
            found = self._found(written)
            if found is not None:
                here = (written.document.file, written.values.path)
                following = self._leads_to.setdefault(here, {})
                following.update(dict.fromkeys(self._lists_in(found.values), written))
                continue
            if not self._is_wrong(written):
                continue
            line = self._line(written.values, written.number)
            self._remark(written.document, line, f"nothing is found for {node.source}.")

    def check_rings(self) -> None:
        """Find lists that lead back to themselves."""
        done: set[_List] = set()
        for start in sorted(self._leads_to):
            self._walk(start, done)

    def _walk(self, start: _List, done: set[_List]) -> None:
        """Go along all names from a list; say each ring once."""
        way: list[tuple[_List, Iterator[_List]]] = [(start, iter(self._leads_to.get(start, ())))]
        on_way = {start}
        while way:
            here, following = way[-1]
            step = next(following, None)
            if step is None or len(way) > MAX_CHAIN:
                way.pop()
                on_way.discard(here)
                done.add(here)
            elif step in on_way:
                self._say_ring(self._leads_to[here][step])
            elif step not in done and step in self._leads_to:
                way.append((step, iter(self._leads_to[step])))
                on_way.add(step)

    def _say_ring(self, written: _Written) -> None:
        message = (
            f"{written.node.source} leads back to this list. A value is never put into itself; where "
            "nothing else is left, the name stays in the text."
        )
        self._remark(written.document, self._line(written.values, written.number), message)

    def _lists_in(self, values: Values) -> list[_List]:
        """Return the lists that values are from."""
        files = {values.origin(index).file for index in range(len(values))}
        return [
            (file, path)
            for file in sorted(files)
            for path in _at_or_below(values.path, self._paths.get(file, []))
        ]

    def _found(self, written: _Written) -> Found | None:
        node = written.node
        if isinstance(node, Slot):
            return self.resolver.slot(written.document, node.path)
        if isinstance(node, Reference):
            return self.resolver.values(node.name) if isinstance(node.name, str) else None
        if node.path is None or isinstance(node.path, str):
            return self.resolver.file_values(node, node.path)
        return None

    def _is_wrong(self, written: _Written) -> bool:
        node = written.node
        if isinstance(node, Slot):
            return written.slots and looks_like_path(node.path)
        if isinstance(node, Reference):
            return isinstance(node.name, str) and not node.in_tag
        if node.otherwise is not None:
            return False
        if node.body is not None:
            return self.resolver.document(node.file) is None
        return node.path is None or isinstance(node.path, str)

    def _line(self, values: Values, index: int) -> int:
        return self.library.locate(values, index).line

    def _remark(self, document: Document, line: int, message: str) -> None:
        self.remarks.append(Remark(message, document.file, line))


def _at_or_below(path: str, paths: list[str]) -> list[str]:
    """Return those of sorted paths that are a path, or lead on from it."""
    if not path:
        return paths
    at = bisect_left(paths, path)
    below = bisect_left(paths, f"{path}.")
    found = paths[at : at + 1] if paths[at : at + 1] == [path] else []
    return found + list(takewhile(lambda each: each.startswith(f"{path}."), paths[below:]))


def _shown(values: Values) -> str:
    return f"'{values.path}'" if values.path else "the file"


def _names_in(root: Node) -> Iterator[Reference | FilePick | Slot]:
    """Yield every name in a tree."""
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (Reference, FilePick, Slot)):
            yield node
        if isinstance(node, tuple):
            waiting += node
        elif dataclasses.is_dataclass(node):
            waiting += [getattr(node, field.name) for field in dataclasses.fields(node)]

"""One call's view of a library: every name is looked up once, and what is wrong is remarked once."""

from __future__ import annotations

from typing import NamedTuple

from .deadline import NEVER, Deadline
from .dialects import Dialect
from .errors import Remark
from .library import Library
from .tree import FilePick
from .values import Document, Values

MAX_HINTS = 20  # in one call; each goes through the names of all files


class Found(NamedTuple):
    """Values to draw from; `document` is set when they are templates of it."""

    values: Values
    name: str
    document: Document | None = None


class Resolver:
    """Names → values, as they are while one text, or a batch of it, is expanded.

    Attributes:
        remarks: What was noticed since they were last cleared, each once.
    """

    def __init__(self, library: Library, dialect: Dialect, deadline: Deadline = NEVER) -> None:
        self.library = library
        self.dialect = dialect
        self.deadline = deadline
        self.remarks: dict[Remark, None] = {}
        self._values: dict[str, tuple[Found | None, list[Remark]]] = {}
        self._hints: dict[str, str] = {}
        self._documents: dict[str, tuple[Document | None, list[Remark]]] = {}

    def remark(self, message: str, values: Values | None, index: int, line: int) -> None:
        """Note something about a line of a value, or of the text itself."""
        if values is None:
            self.remarks[Remark(message, "", line)] = None
            return
        origin = self.library.locate(values, index)
        at = origin.line + line - 1 if origin.line else 0
        self.remarks[Remark(message, origin.file, at)] = None

    def values(self, name: str) -> Found | None:
        """Return what `__name__` stands for."""
        known = self._values.get(name)
        if known is None:
            self.deadline.check()
            problems: list[Remark] = []
            crossing = self.dialect.crossing_star
            values = self.library.find(name, problems, crossing=crossing)
            known = self._values[name] = (self._usable(values, name), problems)
        found, problems = known
        if problems:
            self.remarks.update(dict.fromkeys(problems))
        return found

    def hint(self, name: str) -> str:
        """Return a sentence with a name that was probably meant; "" when there is none like it."""
        hint = self._hints.get(name)
        if hint is None:
            if len(self._hints) >= MAX_HINTS:
                return ""
            file, colon, path = name.partition(":")
            keys = dotted(path)
            meant = self.library.suggest(f"{file}/{keys}" if keys else file)
            if colon and meant.startswith(f"{file}/"):  # as it has to be written after a colon
                meant = f"{file}:{meant[len(file) + 1 :].replace('/', '.')}"
            if meant == name:  # it is there, and why it cannot be read is a remark of its own
                meant = ""
            hint = self._hints[name] = f" Is '{meant}' meant?" if meant else ""
        return hint

    def document(self, name: str) -> Document | None:
        """Return the file that `{name…}` stands for."""
        known = self._documents.get(name)
        if known is None:
            self.deadline.check()
            problems: list[Remark] = []
            known = self._documents[name] = (self.library.document(name, problems), problems)
        document, problems = known
        if problems:
            self.remarks.update(dict.fromkeys(problems))
        return document

    def is_text(self, node: FilePick) -> bool:
        """Are these braces around text, in which a colon looked like that of a file's form?"""
        return node.otherwise is not None and self.document(node.file) is None

    def file_values(self, node: FilePick, path: str | None) -> Found | None:
        """Return what `{file}` or `{file:path}` draws from."""
        document = self.document(node.file)
        if document is None:
            return self.values(node.file if path is None else f"{node.file}/{dotted(path)}")
        name = node.file if path is None else f"{node.file}:{path}"
        templates = document.templates if path is None else document.template_group(path)
        if templates is not None and templates.texts:
            return self._usable(templates, name, document)
        keys = dotted(path).split("/") if path else []
        found = self._usable(document.find(keys), name)
        if found is None and keys:  # in another file, or folder, of the same name
            found = self.values("/".join((node.file, *keys)))
        return found

    def slot(self, document: Document, path: str) -> Found | None:
        """Return the leaves that `[path]` stands for."""
        return self._usable(document.find(dotted(path).split("/")), f"{document.file}:{path}")

    def _usable(
        self, values: Values | None, name: str, document: Document | None = None
    ) -> Found | None:
        if values is None:
            return None
        if self.dialect.sorted_values:
            values = values.sorted_once
        elif not self.dialect.text_weights:
            values = values.as_written
        return Found(values, name, document) if values.drawable else None


def dotted(path: str) -> str:
    """Return a path of keys with `/` between them."""
    return path.strip().replace(".", "/")

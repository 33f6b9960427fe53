"""What counting, listing and weighing outcomes have in common: where they are in texts and files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .bindings import Variables, around
from .errors import WildcardError
from .resolving import Found, Resolver
from .tree import FilePick, Node, Slot
from .values import Document

MAX_DEPTH = 100
MAX_VISITS = 2_000_000
MAX_DIGITS = 60_000  # of a count
MAX_BITS = int(MAX_DIGITS / 0.30103)
DEADLINE_EVERY = 256  # visits


class Place(NamedTuple):
    """Where in the files a walk is: the variables there, and the template that is filled."""

    variables: Variables
    document: Document | None


class Walk:
    """Goes through everything that a tree can become."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.dialect = resolver.dialect
        self.place = Place({}, None)
        self.active: set[str] = set()  # values that are being expanded
        self.excluded = False  # a value was left out because it is being expanded
        self._depth = self._visits = 0

    @contextmanager
    def at(self, variables: Variables, document: Document | None) -> Iterator[None]:
        """Be somewhere else for a while."""
        before, self.place = self.place, Place(variables, document)
        self.visit()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise WildcardError(
                f"The text is nested more than {MAX_DEPTH} deep.",
                "Look for a value or a variable that leads back to itself.",
            )
        try:
            yield
        finally:
            self._depth -= 1
            self.place = before

    @contextmanager
    def inside_value(self, found: Found, index: int) -> Iterator[Node]:
        """Be inside a value, of which this gives the tree."""
        value = found.values.texts[index]
        tree = found.values.tree(index, self.dialect, found.document is not None)
        with self.at(self.place.variables, found.document):
            self.active.add(value)
            try:
                yield tree
            finally:
                self.active.discard(value)

    @contextmanager
    def inside_variable(self, name: str) -> Iterator[Node]:
        """Be where a variable is rolled; this gives its tree."""
        variables = self.place.variables
        with self.at(around(name, variables), self.place.document):
            yield variables[name].value

    def drawable(self, found: Found) -> list[int]:
        """Return the indexes of the values that can come up here."""
        values = found.values
        if values.unique.isdisjoint(self.active):
            return list(values.drawable)
        indexes = []
        for index, text in enumerate(values.texts):
            if text in self.active and not isinstance(
                values.tree(index, self.dialect, found.document is not None), str
            ):
                self.excluded = True
            elif values.weight(index) > 0:
                indexes.append(index)
        return indexes

    def distinct(self, found: Found) -> Found:
        """Return the values with each only once, where the dialect has it so."""
        return found._replace(values=found.values.distinct) if self.dialect.distinct else found

    def file_found(self, node: FilePick | Slot, path: str | None) -> Found | None:
        """Return what a form of a file draws from."""
        if isinstance(node, FilePick):
            return self.resolver.file_values(node, path)
        document = self.place.document
        return None if document is None else self.resolver.slot(document, node.path)

    def visit(self, many: int = 1) -> None:
        """Count work, so that no text can keep this going for ever."""
        self._visits += many
        if not self._visits % DEADLINE_EVERY:
            self.resolver.deadline.check()
        if self._visits > MAX_VISITS:
            raise WildcardError("The text refers to too much for its outcomes to be counted.")


def product(numbers: Iterable[int]) -> int:
    """Return the product."""
    result = 1
    for number in numbers:
        result = bounded(result * number)
    return result


def bounded(count: int) -> int:
    """Return a count.

    Raises:
        WildcardError: It is beyond all use; names in names soon make numbers that fill the memory.
    """
    if count.bit_length() > MAX_BITS:
        raise WildcardError(f"There are more outcomes than 10 to the power of {MAX_DIGITS}.")
    return count

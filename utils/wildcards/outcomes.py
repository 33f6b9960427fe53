"""How many outcomes a text has, and which one is the i-th, without going through those before it.

An outcome is a way to choose at every place; ways that are written alike count once. Two ways may still
give the same text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from . import picks
from .bindings import with_arguments, with_variable
from .errors import WildcardError
from .joining import join
from .picks import Pick
from .resolving import Found, Resolver
from .selections import Selections
from .tree import (
    Assignment,
    Choice,
    FilePick,
    Node,
    NumberRange,
    Reference,
    Sequence,
    Slot,
    Variable,
    Wrap,
)
from .walking import Walk, bounded, product
from .wrapping import wrap

Answer = TypeVar("Answer")

MAX_SPLIT = 10_000  # values of a variable on which the rest of the text depends


class _Rolled(str):
    """Stands for a variable's value while outcomes are counted that do not depend on it."""


class _NeedsValueError(Exception):
    """What is being counted depends on a variable's value."""


class _Table(NamedTuple):
    """What can come up from a list: one value, or with `selections` several.

    `alive` keeps what the table is found by from being forgotten.
    """

    indexes: list[int]
    sums: list[int]  # of the values' outcomes, added up
    selections: Selections | None
    alive: Any

    @property
    def outcomes(self) -> int:
        """How many outcomes there are; where nothing can come up, the name stays in the text."""
        if self.selections is not None:
            return self.selections.count
        return self.sums[-1] if self.sums else 1


class Outcomes(Walk):
    """Counts and lists what a tree can become."""

    def __init__(self, resolver: Resolver) -> None:
        super().__init__(resolver)
        self._tables: dict[tuple[int, ...], _Table] = {}
        self.picks: list[Pick] | None = None  # gets what `text` draws, when there is one

    def count(self, node: Node) -> int:
        """Return how many outcomes there are."""
        if isinstance(node, str):
            return 1
        self.visit()
        return _COUNT[node.__class__](self, node)

    def text(self, node: Node, index: int) -> str:
        """Return the outcome of an index from 0 to below the count."""
        if isinstance(node, _Rolled):
            raise _NeedsValueError
        if isinstance(node, str):
            return node
        self.visit()
        return _TEXT[node.__class__](self, node, index)

    def _untold(self, node: Node, index: int) -> str:
        """Return an outcome that is only tried."""
        before, self.picks = self.picks, None
        try:
            return self.text(node, index)
        finally:
            self.picks = before

    def _tell(self, pick: Pick) -> str:
        if self.picks is not None:
            self.picks.append(pick)
        return pick.text

    # Sequences

    def _count_sequence(self, node: Sequence) -> int:
        if not node.sets_variables:
            return product(self.count(part) for part in node.parts)
        with self.at(*self.place):
            return self._count_rest(node.parts)

    def _count_rest(self, parts: tuple[Node, ...]) -> int:
        """Return the count of parts of which one or more set variables."""
        before, total = self.place, 1
        for number, part in enumerate(parts):
            if not isinstance(part, Assignment):
                total = bounded(total * self.count(part))
                continue
            if self._is_kept(part):
                continue
            if part.once:
                total = bounded(total * self._count_rolled(part, parts[number + 1 :]))
                break
            self._set(part.name, part.value)
        self.place = before
        return total

    def _count_rolled(self, part: Assignment, rest: tuple[Node, ...]) -> int:
        values = self.count(part.value)
        before = self.place
        try:
            self._set(part.name, _Rolled())
            return bounded(values * self._count_rest(rest))
        except _NeedsValueError:
            self.place = before
            return sum(self._splits(part, rest, values))

    def _splits(self, part: Assignment, rest: tuple[Node, ...], values: int) -> list[int]:
        """Return the count of the rest for each value of a variable."""
        if values > MAX_SPLIT:
            raise WildcardError(
                f"The names in the text depend on the variable '{part.name}', which has {values} "
                f"values; up to {MAX_SPLIT} can be gone through."
            )
        before, counts = self.place, []
        for index in range(values):
            self._set(part.name, self._untold(part.value, index))
            counts.append(self._count_rest(rest))
            self.place = before
        return counts

    def _text_sequence(self, node: Sequence, index: int) -> str:
        with self.at(*self.place):
            return self._text_rest(node.parts, index)

    def _text_rest(self, parts: tuple[Node, ...], index: int) -> str:
        """Return an outcome of parts; the last part varies fastest."""
        texts = []
        for number, part in enumerate(parts):
            rest = parts[number + 1 :]
            if isinstance(part, str):
                texts.append(part)
            elif not isinstance(part, Assignment):
                outcome, index = divmod(index, self._count_rest(rest))
                texts.append(self.text(part, outcome))
            elif not self._is_kept(part):
                if part.once:
                    texts.append(self._text_rolled(part, rest, index))
                    break
                self._set(part.name, part.value)
        return "".join(texts)

    def _text_rolled(self, part: Assignment, rest: tuple[Node, ...], index: int) -> str:
        before, values = self.place, self.count(part.value)
        try:
            self._set(part.name, _Rolled())
            outcome, index = divmod(index, self._count_rest(rest))
            self.place = before
        except _NeedsValueError:
            self.place = before
            for outcome, count in enumerate(self._splits(part, rest, values)):  # noqa: B007
                if index < count:
                    break
                index -= count
        self._set(part.name, self.text(part.value, outcome))
        return self._text_rest(rest, index)

    def _is_kept(self, part: Assignment) -> bool:
        return part.keep and part.name in self.place.variables

    def _set(self, name: str, value: Node) -> None:
        variables = with_variable(self.place.variables, name, value)
        self.place = self.place._replace(variables=variables)

    # Choices

    def _count_choice(self, node: Choice) -> int:
        named = _list_in(node)
        if named is not None:
            return self._count_named(named, node)
        counts = [self.count(option) for option in node.options]
        if node.low == node.high == 1:
            return sum(counts)
        return Selections(counts, node.low, node.high).count

    def _text_choice(self, node: Choice, index: int) -> str:
        named = _list_in(node)
        if named is not None:
            return self._text_named(named, index, node)
        counts = [self.count(option) for option in node.options]
        if node.low == node.high == 1:
            sums = list(accumulate(counts))
            at = bisect_right(sums, index)
            return self._option_text(node, at, index - (sums[at - 1] if at else 0))
        taken = Selections(counts, node.low, node.high).at(index)
        texts = [self._option_text(node, i, outcome) for i, outcome in taken]
        return join(texts, node.separator, self.dialect.joining)

    def _option_text(self, node: Choice, index: int, outcome: int) -> str:
        return self._tell(picks.of_option(node, index, self.text(node.options[index], outcome)))

    # Lists

    def _count_named(self, node: Reference | FilePick, several: Choice | None = None) -> int:
        if isinstance(node, FilePick) and self.resolver.is_text(node):
            return self.count(node.otherwise or "")
        name = node.name if isinstance(node, Reference) else node.path
        if name is None or isinstance(name, str):
            return self._count_list(node, name, several)
        names = range(self._names(name))
        return sum(self._count_list(node, self._untold(name, i), several) for i in names)

    def _names(self, name: Node) -> int:
        names = self.count(name)
        if names > MAX_SPLIT:
            raise WildcardError(
                f"A name in the text can be {names} names; up to {MAX_SPLIT} are gone through."
            )
        return names

    def _text_named(
        self, node: Reference | FilePick, index: int, several: Choice | None = None
    ) -> str:
        if isinstance(node, FilePick) and self.resolver.is_text(node):
            return self.text(node.otherwise or "", index)
        name = node.name if isinstance(node, Reference) else node.path
        if name is None or isinstance(name, str):
            return self._text_list(node, name, index, several)
        for number in range(self._names(name)):
            text = self._untold(name, number)
            count = self._count_list(node, text, several)
            if index < count:
                return self._text_list(node, text, index, several)
            index -= count
        raise IndexError("There are fewer outcomes.")

    def _found_by(self, node: Reference | FilePick | Slot, name: str | None) -> Found | None:
        if isinstance(node, Reference):
            found = self.resolver.values(name or "")
        else:
            found = self.file_found(node, name)
        return None if found is None else self.distinct(found)

    def _count_list(
        self, node: Reference | FilePick | Slot, name: str | None, several: Choice | None = None
    ) -> int:
        if isinstance(node, FilePick) and node.body is not None:
            return self._inside_body(node, lambda body: self.count(body))
        found = self._found_by(node, name)
        if found is None:
            return 1
        with self._arguments(node):
            return self._table(found, several).outcomes

    def _text_list(
        self,
        node: Reference | FilePick | Slot,
        name: str | None,
        index: int,
        several: Choice | None = None,
    ) -> str:
        if isinstance(node, FilePick) and node.body is not None:
            return self._inside_body(node, lambda body: self.text(body, index))
        found = self._found_by(node, name)
        if found is None:
            return node.source
        with self._arguments(node):
            table = self._table(found, several)
            if not table.indexes:
                return node.source
            if table.selections is None:
                at = bisect_right(table.sums, index)
                outcome = index - (table.sums[at - 1] if at else 0)
                return self._value_text(node, found, table.indexes[at], outcome)
            texts = [
                self._value_text(node, found, table.indexes[at], outcome)
                for at, outcome in table.selections.at(index)
            ]
            return join(texts, several.separator if several else "", self.dialect.joining)

    def _arguments(self, node: Reference | FilePick | Slot) -> Any:
        arguments = node.arguments if isinstance(node, Reference) else ()
        variables = with_arguments(self.place.variables, arguments)
        return self.at(variables, self.place.document)

    def _inside_body(self, node: FilePick, use: Callable[[Node], Answer]) -> Answer:
        document = self.resolver.document(node.file)
        if document is None:
            return use(node.source)
        with self.at(self.place.variables, document):
            return use(node.body or "")

    def _table(self, found: Found, several: Choice | None) -> _Table:
        """Return the values that can come up, and how many outcomes they have."""
        bounds = (several.low, several.high) if several else (1, 1)
        key = (id(found.values), id(found.document), id(self.place.variables), *bounds)
        known = self._tables.get(key)
        if known is not None:
            return known
        outer, self.excluded = self.excluded, False
        indexes = self.drawable(found)
        counts = self._value_counts(found, indexes)
        selections = Selections(counts, *bounds) if several and indexes else None
        sums = [] if selections else list(accumulate(counts))
        alive = (found.values, found.document, self.place.variables)
        table = _Table(indexes, sums, selections, alive)
        if not self.excluded:
            self._tables[key] = table
        self.excluded = self.excluded or outer
        return table

    def _value_counts(self, found: Found, indexes: list[int]) -> list[int]:
        if found.values.is_plain(self.dialect, found.document is not None):
            return [1] * len(indexes)
        counts = []
        for index in indexes:
            with self.inside_value(found, index) as tree:
                counts.append(self.count(tree))
        return counts

    def _value_text(
        self, node: Reference | FilePick | Slot, found: Found, index: int, outcome: int
    ) -> str:
        with self.inside_value(found, index) as tree:
            text = self.text(tree, outcome)
        return self._tell(picks.of_value(node, found, index, text))

    # The rest

    def _count_variable(self, node: Variable) -> int:
        if node.name not in self.place.variables:
            return 1 if node.default is None else self.count(node.default)
        with self.inside_variable(node.name) as value:
            return self.count(value)

    def _text_variable(self, node: Variable, index: int) -> str:
        if node.name not in self.place.variables:
            return node.source if node.default is None else self.text(node.default, index)
        with self.inside_variable(node.name) as value:
            return self.text(value, index)

    def _text_wrap(self, node: Wrap, index: int) -> str:
        outer, inner = divmod(index, self.count(node.inner))
        return wrap(self.text(node.wrapper, outer), self.text(node.inner, inner))


def _list_in(node: Choice) -> Reference | FilePick | None:
    """Return the name that is the only option: its values are the options."""
    only = node.options[0] if len(node.options) == 1 else None
    return only if isinstance(only, (Reference, FilePick)) else None


_COUNT: dict[type, Callable[[Outcomes, Any], int]] = {
    Sequence: Outcomes._count_sequence,
    Choice: Outcomes._count_choice,
    Reference: Outcomes._count_named,
    FilePick: Outcomes._count_named,
    Slot: lambda walk, node: walk._count_list(node, None),
    NumberRange: lambda walk, node: int(node.count),
    Assignment: lambda walk, node: 1,
    Variable: Outcomes._count_variable,
    Wrap: lambda walk, node: product((walk.count(node.wrapper), walk.count(node.inner))),
}
_TEXT: dict[type, Callable[[Outcomes, Any, int], str]] = {
    Sequence: Outcomes._text_sequence,
    Choice: Outcomes._text_choice,
    Reference: Outcomes._text_named,
    FilePick: Outcomes._text_named,
    Slot: lambda walk, node, index: walk._text_list(node, None, index),
    NumberRange: lambda walk, node, index: walk._tell(picks.of_number(node, node.text(index))),
    Assignment: lambda walk, node, index: "",
    Variable: Outcomes._text_variable,
    Wrap: Outcomes._text_wrap,
}

"""How probable each text is, when everything is drawn by chance."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from typing import Any

from .bindings import with_arguments, with_variable
from .errors import WildcardError
from .joining import Joining, trimmed
from .resolving import Found, Resolver
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
from .walking import Walk
from .wrapping import wrap

Chances = dict[str, float]


class Weighing(Walk):
    """Finds the texts that a tree can become, with their probabilities.

    Args:
        resolver: Where names lead.
        limit: How many texts there may be, at any step on the way.
    """

    def __init__(self, resolver: Resolver, limit: int) -> None:
        super().__init__(resolver)
        self._limit = limit

    def of(self, node: Node) -> Chances:
        """Return text → probability."""
        if isinstance(node, str):
            return {node: 1.0}
        self.visit()
        return _OF[node.__class__](self, node)

    def _add(self, chances: Chances, text: str, chance: float) -> None:
        if chance <= 0:
            return
        self.visit()
        chances[text] = chances.get(text, 0.0) + chance
        if len(chances) > self._limit:
            raise WildcardError(f"The text has more than {self._limit} outcomes.")

    def _one_of(self, things: ListOf[tuple[float, Callable[[], Chances]]]) -> Chances:
        """Return the chances when one of several things comes up, by weight."""
        total = sum(weight for weight, _ in things)
        chances: Chances = {}
        for weight, of in things:
            for text, chance in of().items() if weight else ():
                self._add(chances, text, chance * weight / total)
        return chances

    def _sequence(self, node: Sequence) -> Chances:
        with self.at(*self.place):
            return self._rest(node.parts)

    def _rest(self, parts: tuple[Node, ...]) -> Chances:
        chances: Chances = {"": 1.0}
        for number, part in enumerate(parts):
            if isinstance(part, Assignment):
                if part.keep and part.name in self.place.variables:
                    continue
                if part.once:
                    return self._joined(chances, self._rolled(part, parts[number + 1 :]))
                self._set(part.name, part.value)
            else:
                chances = self._joined(chances, self.of(part))
        return chances

    def _rolled(self, part: Assignment, rest: tuple[Node, ...]) -> Chances:
        chances: Chances = {}
        before = self.place
        for value, chance in self.of(part.value).items():
            self._set(part.name, value)
            for text, other in self._rest(rest).items():
                self._add(chances, text, chance * other)
            self.place = before
        return chances

    def _set(self, name: str, value: Node) -> None:
        variables = with_variable(self.place.variables, name, value)
        self.place = self.place._replace(variables=variables)

    def _joined(self, first: Chances, second: Chances, separator: str = "") -> Chances:
        chances: Chances = {}
        skips = self.dialect.joining is Joining.FILLED
        for text, chance in first.items():
            for more, other in second.items():
                joint = "" if skips and not (text and more) else separator
                self._add(chances, f"{text}{joint}{more}", chance * other)
        return chances

    def _choice(self, node: Choice) -> Chances:
        only = node.options[0] if len(node.options) == 1 else None
        if isinstance(only, (Reference, FilePick)):
            return self._by_name(only, lambda found: self._values(self.distinct(found), node, only))
        if node.low == node.high == 1:
            pairs = zip(node.weights, node.options, strict=True)
            return self._one_of([(weight, lambda o=option: self.of(o)) for weight, option in pairs])  # type: ignore[misc]
        return self._several([self.of(option) for option in node.options], node.weights, node)

    def _several(self, of: ListOf[Chances], weights: ListOf[float], node: Choice) -> Chances:
        low, high = min(node.low, len(of)), min(node.high, len(of))
        chances: Chances = {}
        for length in range(low, high + 1):
            drawn = self._drawn(of, weights, frozenset(range(len(of))), length, node.separator)
            for text, chance in drawn.items():
                if length > 1:
                    text = trimmed(text, node.separator, self.dialect.joining)
                self._add(chances, text, chance / (high - low + 1))
        return chances

    def _drawn(
        self,
        of: ListOf[Chances],
        weights: ListOf[float],
        left: frozenset[int],
        length: int,
        separator: str,
    ) -> Chances:
        """Return the chances of drawing `length` of the things that are left, one after the other."""
        if not length or not left:
            return {"": 1.0}
        total = sum(weights[index] for index in left)
        chances: Chances = {}
        for index in sorted(left):
            rest = self._drawn(of, weights, left - {index}, length - 1, separator)
            joint = separator if length > 1 and len(left) > 1 else ""
            for text, chance in self._joined(of[index], rest, joint).items():
                self._add(chances, text, chance * weights[index] / total)
        return chances

    def _values(self, found: Found, node: Choice | None, source: Any) -> Chances:
        indexes = self.drawable(found)
        if not indexes:
            return {source.source: 1.0}
        weights = [found.values.weight(index) for index in indexes]
        if node is not None and (node.low, node.high) != (1, 1):
            return self._several([self._value(found, index) for index in indexes], weights, node)
        things = [
            (weight, lambda i=index: self._value(found, i))
            for weight, index in zip(weights, indexes, strict=True)
        ]
        return self._one_of(things)

    def _value(self, found: Found, index: int) -> Chances:
        with self.inside_value(found, index) as tree:
            return self.of(tree)

    def _by_name(self, node: Reference | FilePick, use: Callable[[Found], Chances]) -> Chances:
        """Return the chances over all names that a name can become."""
        if isinstance(node, FilePick) and self.resolver.is_text(node):
            return self.of(node.otherwise or "")
        name = node.name if isinstance(node, Reference) else node.path
        if name is None or isinstance(name, str):
            return self._named(node, name, use)
        chances: Chances = {}
        for text, chance in self.of(name).items():
            for outcome, other in self._named(node, text, use).items():
                self._add(chances, outcome, chance * other)
        return chances

    def _named(
        self, node: Reference | FilePick, name: str | None, use: Callable[[Found], Chances]
    ) -> Chances:
        if isinstance(node, FilePick) and node.body is not None:
            document = self.resolver.document(node.file)
            if document is not None:
                with self.at(self.place.variables, document):
                    return self.of(node.body)
            found = None
        elif isinstance(node, Reference):
            found = self.resolver.values(name or "")
        else:
            found = self.file_found(node, name)
        if found is None:
            return {node.source: 1.0}
        arguments = node.arguments if isinstance(node, Reference) else ()
        variables = with_arguments(self.place.variables, arguments)
        with self.at(variables, self.place.document):
            return use(found)

    def _name(self, node: Reference | FilePick) -> Chances:
        return self._by_name(node, lambda found: self._values(found, None, node))

    def _slot(self, node: Slot) -> Chances:
        found = self.file_found(node, None)
        return {node.source: 1.0} if found is None else self._values(found, None, node)

    def _number(self, node: NumberRange) -> Chances:
        if node.count > self._limit:
            raise WildcardError(f"{node.source} has more than {self._limit} outcomes.")
        return {node.text(index): 1 / node.count for index in range(node.count)}

    def _variable(self, node: Variable) -> Chances:
        if node.name not in self.place.variables:
            return {node.source: 1.0} if node.default is None else self.of(node.default)
        with self.inside_variable(node.name) as value:
            return self.of(value)

    def _wrap(self, node: Wrap) -> Chances:
        chances: Chances = {}
        for outer, chance in self.of(node.wrapper).items():
            for inner, other in self.of(node.inner).items():
                self._add(chances, wrap(outer, inner), chance * other)
        return chances


_OF: dict[type, Callable[[Weighing, Any], Chances]] = {
    Sequence: Weighing._sequence,
    Choice: Weighing._choice,
    Reference: Weighing._name,
    FilePick: Weighing._name,
    Slot: Weighing._slot,
    NumberRange: Weighing._number,
    Variable: Weighing._variable,
    Wrap: Weighing._wrap,
}

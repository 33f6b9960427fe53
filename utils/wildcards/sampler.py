"""Tree → text: one outcome, drawn with one generator."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from typing import Any

from . import drawing, picks
from .bindings import Variables, around, with_arguments, with_variable
from .errors import WildcardError
from .joining import join
from .outcomes import Outcomes
from .picks import Pick
from .resolving import Found, Resolver
from .selections import Selections
from .tree import (
    Assignment,
    Choice,
    FilePick,
    Method,
    Node,
    NumberRange,
    Reference,
    Sequence,
    Slot,
    Variable,
    Wrap,
)
from .values import Document, Values
from .walking import MAX_DEPTH, Place
from .wrapping import wrap

MAX_STEPS = 100_000  # draws for one text
MAX_LENGTH = 2_000_000  # characters, counting those of parts


class Sampler:
    """Draws one text.

    Args:
        resolver: Where names lead.
        rng: Where chance comes from.
        position: Which outcome `@` and `!` take.
    """

    def __init__(self, resolver: Resolver, rng: random.Random, position: int) -> None:
        self.resolver = resolver
        self.dialect = resolver.dialect
        self.rng = rng
        self.position = position
        self.picks: list[Pick] = []
        self._ordinal = position  # what `!` groups have left over
        self._variables: Variables = {}
        self._document: Document | None = None  # of the template that is being filled
        self._place: tuple[Values, int] | None = None  # the value that is being expanded
        self._active: dict[str, None] = {}  # values and variables that are being expanded
        self._depth = self._steps = self._length = 0

    def text(self, node: Node) -> str:
        """Return one outcome of a tree."""
        return node if isinstance(node, str) else _BY_KIND[node.__class__](self, node)

    # Sequences and choices

    def _sequence(self, node: Sequence) -> str:
        before = self._variables
        text = "".join(
            [p if p.__class__ is str else _BY_KIND[p.__class__](self, p) for p in node.parts]
        )
        self._variables = before
        self._grow(len(text))
        return text

    def _choice(self, node: Choice) -> str:
        self._enter()
        options = node.options
        if len(options) == 1 and isinstance(options[0], (Reference, FilePick)):
            text = self._several_of(node, options[0])
        elif node.method is Method.COMBINATORIAL:
            text = self._ordered(node)
        elif node.low == node.high == 1 and len(options) > 1:
            if node.method is Method.CYCLICAL:
                index = self.position % len(options)
            elif node.cumulative is None:
                index = int(self.rng.random() * len(options))
            else:
                index = drawing.weighted(self.rng, node.cumulative)
            text = self._option(node, index)
        else:
            weights = None if node.cumulative is None else node.weights
            drawn = self._indexes(node, len(options), weights)
            text = self._join(node, [self._option(node, index) for index in drawn])
        self._depth -= 1
        return text

    def _option(self, node: Choice, index: int) -> str:
        option = node.options[index]
        text = option if option.__class__ is str else self.text(option)
        self.picks.append(picks.of_option(node, index, text))
        return text

    def _indexes(self, node: Choice, size: int, weights: ListOf[float] | None) -> list[int]:
        """Return which of several things are drawn, in their order."""
        if node.method is not Method.RANDOM:
            selections = Selections([1] * size, node.low, node.high)
            return [index for index, _ in selections.at(self.position % selections.count)]
        low, high = min(node.low, size), min(node.high, size)
        count = low + (drawing.below(self.rng, high - low + 1) if high > low else 0)
        return drawing.several(self.rng, count, weights, size)

    def _several_of(self, node: Choice, option: Reference | FilePick) -> str:
        """Draw several values of one list, each at most once."""
        if isinstance(option, FilePick) and (option.body or self.resolver.is_text(option)):
            return self.text(option)
        if node.method is Method.COMBINATORIAL:
            return self._ordered(node)
        found, name, before = self._found(option)
        text = self._unknown(option, name) if found is None else self._several(found, node, option)
        self._variables = before
        return text

    def _several(self, found: Found, node: Choice, option: Reference | FilePick) -> str:
        values = found.values.distinct if self.dialect.distinct else found.values
        found = found._replace(values=values)
        if (
            node.method is Method.RANDOM
            and len(values.drawable) == len(values)
            and values.unique.isdisjoint(self._active)
        ):
            drawn = self._indexes(node, len(values), values.weights)
        else:
            left = self._others(values)
            if not left:
                return self._circle(values.texts[0], option)
            weights = [values.weight(index) for index in left]
            drawn = [left[at] for at in self._indexes(node, len(left), weights)]
        return self._join(node, [self._value(found, index, option) for index in drawn])

    def _join(self, node: Choice, texts: list[str]) -> str:
        return join(texts, node.separator, self.dialect.joining)

    def _ordered(self, node: Node) -> str:
        """Return the outcome whose turn it is; the first such group varies fastest."""
        outcomes = Outcomes(self.resolver)
        outcomes.place = Place(self._variables, self._document)
        outcomes.active = set(self._active)
        outcomes.picks = self.picks
        count = outcomes.count(node)
        if not count:
            return ""
        self._ordinal, index = divmod(self._ordinal, count)
        return outcomes.text(node, index)

    def _number(self, node: NumberRange) -> str:
        text = node.text(drawing.below(self.rng, node.count))
        self.picks.append(picks.of_number(node, text))
        return text

    # Names

    def _reference(self, node: Reference) -> str:
        self._enter()
        if node.method is Method.COMBINATORIAL:
            text = self._ordered(node)
        else:
            found, name, before = self._found(node)
            text = self._unknown(node, name) if found is None else self._one_of(found, node)
            self._variables = before
        self._depth -= 1
        return text

    def _file_pick(self, node: FilePick) -> str:
        self._enter()
        if self.resolver.is_text(node):
            text = self.text(node.otherwise or "")
        elif node.body is not None:
            document = self.resolver.document(node.file)
            text = (
                self._unknown(node, node.file) if document is None else self._inline(node, document)
            )
        else:
            found, name, _ = self._found(node)
            text = self._unknown(node, name) if found is None else self._one_of(found, node)
        self._depth -= 1
        return text

    def _inline(self, node: FilePick, document: Document) -> str:
        before, self._document = self._document, document
        text = self.text(node.body or "")
        self._document = before
        self.picks.append(picks.of_template(node, document.file, text))
        return text

    def _slot(self, node: Slot) -> str:
        found = None
        if self._document is not None:
            found = self.resolver.slot(self._document, node.path)
        if found is None:
            if self._document is not None and looks_like_path(node.path):
                message = f"'{self._document.file}' has no '{node.path}', so {node.source} stays in the text."
                self._remark(message, node.line)
            return node.source
        self._enter()
        text = self._one_of(found, node)
        self._depth -= 1
        return text

    def _found(self, node: Reference | FilePick) -> tuple[Found | None, str, Variables]:
        """Return what a name stands for, the name, and the variables that hold again after it."""
        before = self._variables
        if isinstance(node, FilePick):
            path = None if node.path is None else self.text(node.path)
            name = node.file if path is None else f"{node.file}:{path}"
            return self.resolver.file_values(node, path), name, before
        name = node.name if isinstance(node.name, str) else self.text(node.name)
        found = self.resolver.values(name)
        self._variables = with_arguments(before, node.arguments)
        return found, name, before

    def _one_of(self, found: Found, node: Reference | FilePick | Slot) -> str:
        values = found.values
        if isinstance(node, Reference) and node.method is Method.CYCLICAL:
            index = values.drawable[self.position % len(values.drawable)]
            return self._value(found, index, node)
        if values.cumulative is None:
            return self._value(found, int(self.rng.random() * len(values)), node)
        return self._value(found, values.at(self.rng.random()), node)

    def _value(self, found: Found, index: int, node: Reference | FilePick | Slot) -> str:
        """Expand one value of a list, unless it is being expanded already: then another one."""
        values, slots = found.values, found.document is not None
        tree = values.tree(index, self.dialect, slots)
        if tree.__class__ is str:
            text = tree
        else:
            if values.texts[index] in self._active:
                others = self._others(values)
                if not others:
                    return self._circle(values.texts[index], node)
                weights = [values.weight(other) for other in others]
                index = others[drawing.several(self.rng, 1, weights, len(others))[0]]
                tree = values.tree(index, self.dialect, slots)
            text = self._expanded(found, index, tree)
        self.picks.append(picks.of_value(node, found, index, text))
        return text

    def _expanded(self, found: Found, index: int, tree: Node) -> str:
        value = found.values.texts[index]
        before = self._document, self._place, self._variables
        self._document, self._place = found.document, (found.values, index)
        self._active[value] = None
        text = self.text(tree)
        del self._active[value]
        self._document, self._place, self._variables = before
        return text

    def _others(self, values: Values) -> list[int]:
        active = self._active
        return [index for index in values.drawable if values.texts[index] not in active]

    def _circle(self, value: str, node: Reference | FilePick | Slot) -> str:
        way = " → ".join([*self._active, value])
        message = f"{node.source} leads back to itself ({way[:300]}), so it stays in the text."
        self._remark(message, node.line)
        return node.source

    def _unknown(self, node: Reference | FilePick, name: str) -> str:
        if not (isinstance(node, Reference) and node.in_tag):
            hint = self.resolver.hint(name)
            message = f"nothing is found for '{name}', so {node.source} stays in the text.{hint}"
            self._remark(message, node.line)
        return node.source

    # Variables

    def _assignment(self, node: Assignment) -> str:
        if not node.keep or node.name not in self._variables:
            value = self.text(node.value) if node.once else node.value
            self._variables = with_variable(self._variables, node.name, value)
        return ""

    def _variable(self, node: Variable) -> str:
        binding = self._variables.get(node.name)
        if binding is None:
            if node.default is not None:
                return self.text(node.default)
            message = (
                f"the variable '{node.name}' is not set here, so {node.source} stays in the text."
            )
            self._remark(message, node.line)
            return node.source
        if isinstance(binding.value, str):
            self._grow(len(binding.value))
            return binding.value
        self._enter()
        before = self._variables
        self._variables = around(node.name, before)
        text = self.text(binding.value)
        self._variables = before
        self._depth -= 1
        return text

    def _wrap(self, node: Wrap) -> str:
        return wrap(self.text(node.wrapper), self.text(node.inner))

    # Limits

    def _enter(self) -> None:
        self._depth += 1
        self._steps += 1
        if not self._steps & 255:
            self.resolver.deadline.check()
        if self._depth > MAX_DEPTH:
            raise WildcardError(
                f"The text is nested more than {MAX_DEPTH} deep: {self._way()}.",
                "Look for a value that leads back to itself.",
            )
        if self._steps > MAX_STEPS:
            raise WildcardError(
                f"The text needs more than {MAX_STEPS} draws: {self._way()}.",
                "Look for values that refer to several others, which do so again.",
            )

    def _grow(self, length: int) -> None:
        self._length += length
        if self._length > MAX_LENGTH:
            raise WildcardError(
                f"The text grows beyond {MAX_LENGTH} characters: {self._way()}.",
                "Look for a variable or a value that repeats itself.",
            )

    def _way(self) -> str:
        return " → ".join(value[:60] for value in list(self._active)[:8]) or "in the text itself"

    def _remark(self, message: str, line: int) -> None:
        values, index = self._place or (None, 0)
        self.resolver.remark(message, values, index, line)


def looks_like_path(text: str) -> bool:
    """Is `[text]` meant as a path, and not one of the tags that other tools put in brackets?"""
    bare = text.replace(".", "").replace("_", "").replace("-", "").replace("/", "")
    return bare.isalnum() and not text.isupper()


_BY_KIND: dict[type, Callable[[Sampler, Any], str]] = {
    Sequence: Sampler._sequence,
    Choice: Sampler._choice,
    Reference: Sampler._reference,
    FilePick: Sampler._file_pick,
    Slot: Sampler._slot,
    NumberRange: Sampler._number,
    Assignment: Sampler._assignment,
    Variable: Sampler._variable,
    Wrap: Sampler._wrap,
}

"""What variables stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .tree import Node


class Binding(NamedTuple):
    """A variable's tree, and the variables among which it is rolled.

    `known` None: those at the place of use, in which the variable itself is still what it was `before`.
    """

    value: Node
    before: Binding | None = None
    known: Mapping[str, Binding] | None = None


Variables = Mapping[str, Binding]


def around(name: str, variables: Variables) -> Variables:
    """Return the variables among which the value of a variable is rolled."""
    binding = variables[name]
    if binding.known is not None:
        return binding.known
    changed = dict(variables)
    if binding.before is None:
        del changed[name]
    else:
        changed[name] = binding.before
    return changed


def with_arguments(variables: Variables, arguments: tuple[tuple[str, Node], ...]) -> Variables:
    """Return the variables that a name's values see: those of the text, and what is given in brackets."""
    if not arguments:
        return variables
    given = {name: Binding(value, known=variables) for name, value in arguments}
    return {**variables, **given}


def with_variable(variables: Variables, name: str, value: Node) -> Variables:
    """Return the variables with one set anew."""
    return {**variables, name: Binding(value, variables.get(name))}

"""Chains: names for several texts in a row, each of which knows what the ones before picked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..wildcards.names import normal
from .matching import Context, rules_of
from .records import Record

SEPARATOR = ", "


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One chain.

    Attributes:
        name: As it stands in templates, as it is compared.
        steps: Templates, or addresses without braces.
        separator: Between the texts.
    """

    name: str
    steps: tuple[str, ...]
    separator: str


def read_chains(root: Record, context: Context) -> Iterator[Chain]:
    """Yield the chains of a file: `name: [steps]`, or `name: {steps: [...], separator: ...}`."""
    for name, rule in rules_of(root, "chains").items():
        steps = rule.fields.get("steps", rule)
        texts = tuple(part.text for part in steps.parts if part.text)
        if not texts:
            context.source.remark(f"the chain '{name}' has no steps; it is left out.", rule)
            continue
        separator = rule.fields.get("separator")
        written = separator.value if separator is not None else SEPARATOR
        yield Chain(normal(name), texts, written if isinstance(written, str) else SEPARATOR)

"""Constraints: what earlier picks allow and forbid for later ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .items import Item
from .matching import Context, Entry, Place, entries_of, rules_of
from .records import Record


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """One rule.

    Attributes:
        source: The rule holds once something from there was picked.
        target: Which items it is about.
        compatible: If any item fits one of these, only such items stay.
        incompatible: Items that fit one of these go.
    """

    source: Place
    target: Place
    compatible: tuple[Entry, ...]
    incompatible: tuple[Entry, ...]


def read_constraints(root: Record, context: Context) -> Iterator[Constraint]:
    """Yield the rules of a file: source → target → compatible, incompatible."""
    for source, targets in rules_of(root, "constraints", "rules").items():
        if not targets.fields:
            context.source.remark(f"'{source}' names no categories, so it does nothing.", targets)
        for target, rule in targets.fields.items():
            compatible = entries_of(rule.fields.get("compatible"))
            incompatible = entries_of(rule.fields.get("incompatible"))
            if not compatible and not incompatible:
                context.source.remark(
                    f"'{source}' says nothing about '{target}': it needs a list 'compatible' or "
                    "'incompatible'.",
                    rule,
                )
            yield Constraint(context.place(source), context.place(target), compatible, incompatible)


def filtered(
    items: Sequence[Item], constraints: Iterable[Constraint]
) -> tuple[list[Item], dict[Item, float]]:
    """Return the items that are left, and what some of them weigh because of the rules.

    First everything incompatible goes; then each rule keeps what is compatible, unless that is nothing.
    """
    constraints = list(constraints)
    left = [item for item in items if not any(_forbids(each, item) for each in constraints)]
    weights: dict[Item, float] = {}
    for each in constraints:
        if not each.compatible:
            continue
        kept = []
        for item in left:
            fitting = _fitting(each, item)
            if fitting is not None:
                kept.append(item)
                if fitting.weight is not None:
                    weights[item] = fitting.weight
            elif not each.target.holds(item):
                kept.append(item)
        if any(each.target.holds(item) for item in kept):
            left = kept
    return left, weights


def _forbids(constraint: Constraint, item: Item) -> bool:
    return constraint.target.holds(item) and any(
        entry.fits(item) for entry in constraint.incompatible
    )


def _fitting(constraint: Constraint, item: Item) -> Entry | None:
    """Return the entry that fits an item of the target; one with a weight before one without."""
    if not constraint.target.holds(item):
        return None
    found = [entry for entry in constraint.compatible if entry.fits(item)]
    weighted = [entry for entry in found if entry.weight is not None]
    return next(iter(weighted or found), None)

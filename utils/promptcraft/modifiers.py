"""Modifiers: words that are put behind a pick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .items import Item, tags_of
from .matching import Context, Entry, Place, any_fits, entries_of, rules_of, texts_of
from .records import Record


@dataclass(frozen=True, slots=True, eq=False)
class Modifier:
    """One rule.

    Attributes:
        source: Which picks it is for; a tag counts too.
        words: One of them is drawn, by its weight.
        compatible: One of these has to fit the pick or an earlier one, if there are any.
        incompatible: None of these may.
        states: One of these tags has to be there, if there are any.
    """

    source: Place
    words: tuple[tuple[str, float], ...]
    compatible: tuple[Entry, ...]
    incompatible: tuple[Entry, ...]
    states: frozenset[str]

    def applies(self, item: Item, picked: Sequence[Item], tags: frozenset[str]) -> bool:
        """Is the rule for this pick?

        Args:
            item: What was picked.
            picked: It and everything before.
            tags: Of all these.
        """
        if not self.source.holds_or_tags(item) or (self.states and not self.states & tags):
            return False
        if self.compatible and not any_fits(self.compatible, picked):
            return False
        return not any_fits(self.incompatible, picked)


def read_modifiers(root: Record, context: Context) -> Iterator[Modifier]:
    """Yield the rules of a file: source → modifiers, compatible, incompatible, allow_states."""
    for source, rule in rules_of(root).items():
        words = texts_of(rule if not rule.fields else rule.fields.get("modifiers"))
        if not any(weight > 0 for _, weight in words):
            context.source.remark(f"'{source}' has no list 'modifiers', so it does nothing.", rule)
            continue
        fields = rule.fields
        states = fields.get("allow_states")
        yield Modifier(
            context.place(source),
            words,
            entries_of(fields.get("compatible")),
            entries_of(fields.get("incompatible")),
            tags_of(states.words) if states is not None else frozenset(),
        )

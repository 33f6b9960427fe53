"""From a template to a prompt: picks from categories that take notice of each other.

    library = CraftLibrary(["models/wildcards"])
    craft("{setting}, {clothing:hats}", seed=7, library=library).prompt

The same template, seed and files give the same on every platform. Picks, choices, modifiers and expanders
have streams of chance of their own: switching one of them off changes nothing about what the others draw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..prompts.embeddings import append
from ..wildcards import drawing
from ..wildcards.engine import expand
from ..wildcards.errors import Remark, WildcardError
from ..wildcards.names import normal
from ..wildcards.tidying import tidy
from .constraints import Constraint, filtered
from .content import Content, Reference
from .expanders import Expander
from .items import Item
from .library import CraftLibrary
from .lora_links import Linked, linked_to
from .references import with_marks, without_marks

MAX_PICKS = 10_000
MAX_NESTING = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What takes part."""

    constraints: bool = True
    modifiers: bool = True
    expanders: bool = True
    lora_links: bool = True
    trigger_words: bool = True


@dataclass(frozen=True, slots=True)
class Pick:
    """What was drawn for a name.

    Attributes:
        item: The item.
        text: What it became: with the names in it filled in, and with its modifier.
        modifier: What was put behind it; "" for nothing.
        candidates: How many items it was drawn from.
        relaxed: What had to be ignored because nothing would have been left; "" for nothing.
    """

    item: Item
    text: str
    modifier: str
    candidates: int
    relaxed: str


@dataclass(frozen=True, slots=True)
class Crafted:
    """A prompt and how it came about.

    Attributes:
        prompt: With expansions, trigger words and embeddings at its end.
        picks: In the order in which they were made.
        tags: Of all picks, and those from the start.
        expansions: What expanders added.
        linked: LoRAs and embeddings that belong to the picks.
        payloads: Of the picks, in order.
        warnings: What is not as its author meant it.
    """

    prompt: str
    seed: int
    settings: Settings
    picks: tuple[Pick, ...]
    tags: frozenset[str]
    expansions: tuple[str, ...]
    linked: Linked
    payloads: tuple[str, ...]
    warnings: tuple[Remark, ...]


def craft(
    template: str,
    seed: int,
    library: CraftLibrary,
    settings: Settings | None = None,
    tags: frozenset[str] = frozenset(),
) -> Crafted:
    """Return a prompt.

    Args:
        template: Text with names of categories and chains, and everything that wildcards can be.
        seed: Where chance begins; 0 and negative numbers are seeds like others.
        library: Where categories and rules are.
        settings: What takes part; None: everything.
        tags: That are there from the start, as `items.tags_of` gives them.

    Raises:
        WildcardError: A category that is needed cannot be read, or the text grows without end.
    """
    run = _Run(library, seed, settings or Settings(), tags)
    try:
        return run.crafted(template)
    except RecursionError as error:
        raise _endless() from error


class _Run:
    """One call."""

    def __init__(
        self, library: CraftLibrary, seed: int, settings: Settings, tags: frozenset[str]
    ) -> None:
        self._content: Content = library.content()
        self._wildcards = library.wildcards
        self._seed = seed
        self._settings = settings
        self._tags = tags
        self._picking = drawing.generator(seed)
        self._choosing = self._stream("choices")
        self._modifying = self._stream("modifiers")
        self._picked: list[Item] = []
        self._picks: list[Pick] = []
        self._active: dict[Constraint, None] = {}
        self._warnings = dict.fromkeys(self._content.remarks)

    def crafted(self, template: str) -> Crafted:
        prompt = tidy(self._text(template, ()))
        expansions = self._expansions() if self._settings.expanders else ()
        for expansion in expansions:
            prompt = append(prompt, expansion)
        linked = Linked()
        if self._settings.lora_links:
            linked = linked_to(self._picked, self._content.links)
            prompt = self._with_links(prompt, linked)
        return Crafted(
            prompt,
            self._seed,
            self._settings,
            tuple(self._picks),
            self._tags,
            expansions,
            linked,
            tuple(item.payload for item in self._picked if item.payload),
            tuple(self._warnings),
        )

    def _stream(self, name: str) -> random.Random:
        # A text is hashed with SHA-512 on its way to the generator's state, the same everywhere.
        return random.Random(f"{self._seed}/{name}")

    # Texts

    def _text(self, written: str, above: tuple[Item, ...]) -> str:
        """Return a text with everything in it filled in.

        Args:
            written: A template, or an item's text.
            above: The items whose texts it is a part of.
        """
        if len(above) > MAX_NESTING:
            raise _endless()
        marked, found = with_marks(written, self._content)
        seed = drawing.below(self._choosing, 2**48)
        expansion = expand(marked, seed, self._wildcards, position=self._seed)
        for remark in expansion.warnings:
            self._warn(remark)
        return without_marks(expansion.text, found, lambda each: self._filled(each, above))

    def _filled(self, reference: Reference, above: tuple[Item, ...]) -> str:
        if reference.chain is None:
            return self._pick(reference, above)
        if len(self._picks) > MAX_PICKS or len(above) > MAX_NESTING:
            raise _endless()
        texts = []
        for step in reference.chain.steps:
            if self._content.reference(step) is not None:
                step = f"{{{step}}}"
            texts.append(self._text(step, above))
        return reference.chain.separator.join(text for text in texts if text)

    # Picks

    def _pick(self, reference: Reference, above: tuple[Item, ...]) -> str:
        for remark in self._content.category(reference.category).remarks:
            self._warn(remark)
        every = self._content.items(reference.category, reference.path)
        # An item inside its own text would never end.
        items = [item for item in every if item not in above]
        if not items:
            message = f"'{reference.written}' has only items that are being filled in; it stays."
            self._warn(Remark(message, above[-1].file, above[-1].line))
            return f"{{{reference.written}}}"
        if len(self._picks) >= MAX_PICKS:
            raise _endless()
        left, weights, relaxed = self._candidates(items)
        item = left[_draw(self._picking, weights)]
        self._remember(item)
        place = len(self._picks)
        self._picks.append(Pick(item, item.text, "", len(left), relaxed))
        text = self._text(item.text, (*above, item))
        modifier = self._modifier(item) if self._settings.modifiers else ""
        text = append(text, modifier) if modifier else text
        self._picks[place] = Pick(item, text, modifier, len(left), relaxed)
        return text

    def _candidates(self, items: Sequence[Item]) -> tuple[list[Item], list[float], str]:
        """Return the items that may be drawn, their weights, and what was ignored.

        Rules give way one kind after the other, and only when nothing would be left.
        """
        weights: dict[Item, float] = {}
        allowed = [item for item in items if self._agrees(item)]
        steps: list[tuple[str, Sequence[Item]]] = []
        if self._settings.constraints and self._active:
            kept, weights = filtered(allowed, self._active)
            steps.append(("", kept))
        steps.append(("constraints" if steps else "", allowed))
        steps.append(("tags", items))
        for relaxed, left in steps:
            found = [weights.get(item, item.weight) for item in left]
            if any(weight > 0 for weight in found):
                return list(left), found, relaxed
            weights = {}
        return list(items), [1.0] * len(items), "weights"

    def _agrees(self, item: Item) -> bool:
        """Do the item's own tags allow it here?"""
        if item.blacklist & self._tags or not item.requires <= self._tags:
            return False
        return not item.whitelist or bool(item.whitelist & self._tags)

    def _remember(self, item: Item) -> None:
        self._picked.append(item)
        self._tags |= item.tags
        for constraint in self._content.constraints:
            if constraint.source.holds(item):
                self._active[constraint] = None

    def _modifier(self, item: Item) -> str:
        for rule in self._content.modifiers:
            if rule.applies(item, self._picked, self._tags):
                at = _draw(self._modifying, [weight for _, weight in rule.words])
                return self._text(rule.words[at][0], (item,))
        return ""

    # The end of the prompt

    def _expansions(self) -> tuple[str, ...]:
        picked = tuple(self._picked)  # what expanders pick themselves sets off no others
        drawn: dict[str, str] = {}
        for expander in self._content.expanders:
            if any(place.holds(item) for place in expander.places for item in picked):
                for value in self._drawn_by(expander, drawn):
                    drawn[value] = self._text(value, ())
        return tuple(text for text in drawn.values() if text)

    def _drawn_by(self, expander: Expander, without: dict[str, str]) -> list[str]:
        rng = self._stream(f"expander/{expander.name}")
        if rng.random() >= expander.chance:
            return []
        low, high = expander.count
        count = low + drawing.below(rng, high - low + 1)
        values = [value for value in expander.values if value[0] not in without]
        indexes = drawing.several(
            rng, min(count, len(values)), [weight for _, weight in values], len(values)
        )
        return list(dict.fromkeys(values[index][0] for index in indexes))

    def _with_links(self, prompt: str, linked: Linked) -> str:
        if self._settings.trigger_words:
            there = {normal(part.strip()) for part in prompt.split(",")}
            for word in linked.triggers:
                if normal(word) not in there:
                    prompt = append(prompt, word)
        for embedding in linked.embeddings:
            prompt = append(prompt, embedding.written())
        return prompt

    def _warn(self, remark: Remark) -> None:
        self._warnings[remark] = None


def _draw(rng: random.Random, weights: Sequence[float]) -> int:
    return drawing.weighted(rng, list(accumulate(weights)))


def _endless() -> WildcardError:
    return WildcardError(
        f"The prompt does not end: items contain each other more than {MAX_NESTING} deep, or more "
        f"than {MAX_PICKS} names had to be filled in.",
        "Look for items whose texts contain names that lead back to them.",
    )

"""How many prompts a template stands for, before rules take any away."""

from __future__ import annotations

from math import prod

from ..wildcards.engine import MAX_OUTCOMES, count, enumerate_outcomes
from ..wildcards.errors import WildcardError
from ..wildcards.library import Library
from .content import Content, Reference
from .items import Item
from .library import CraftLibrary
from .references import marks_in, with_marks


def count_combinations(template: str, library: CraftLibrary) -> int:
    """Return how many ways there are to fill a template in; rules would make them fewer.

    Raises:
        WildcardError: They cannot be counted.
    """
    try:
        return _Counting(library.content(), library.wildcards).text(template, ())
    except RecursionError as error:
        raise WildcardError("The template is nested too deeply to be counted.") from error


class _Counting:
    def __init__(self, content: Content, wildcards: Library) -> None:
        self._content = content
        self._wildcards = wildcards
        self._left = 1_000_000  # items that contain names, whose ways hang on where they stand

    def text(self, written: str, above: tuple[Item, ...]) -> int:
        marked, found = with_marks(written, self._content)
        ways = count(marked, self._wildcards)
        if not found:
            return ways
        if ways == 1:
            return prod(self._reference(each, above) for each in marks_in(marked, found))
        if ways > MAX_OUTCOMES:
            raise WildcardError(
                f"There are more than {MAX_OUTCOMES} choices around the names, too many to count.",
                "Put some of the choices into categories.",
            )
        texts = set(enumerate_outcomes(marked, self._wildcards))
        known = {mark: self._reference(mark, above) for mark in found}
        return sum(prod(known[mark] for mark in marks_in(text, found)) for text in texts)

    def _reference(self, reference: Reference, above: tuple[Item, ...]) -> int:
        self._left -= 1
        if self._left < 0 or len(above) > 60:
            raise WildcardError("The items contain each other too often to be counted.")
        if reference.chain is not None:
            steps = reference.chain.steps
            known = self._content.reference
            return prod(self.text(f"{{{s}}}" if known(s) else s, above) for s in steps)
        items = self._content.items(reference.category, reference.path)
        items = tuple(item for item in items if item.weight > 0 and item not in above)
        return sum(self._item(item, above) for item in items) or 1

    def _item(self, item: Item, above: tuple[Item, ...]) -> int:
        if "{" not in item.text and "__" not in item.text:
            return 1
        return self.text(item.text, (*above, item))

"""The wildcard engine's calls. What can be written in a text is in docs/wildcards.md.

    library = Library(["models/wildcards"])
    expand("a {red|blue} __animal__", seed=7, library=library).text

The same text, seed, position and files give the same result on every platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from .chances import Weighing
from .deadline import NEVER, Deadline
from .dialects import LUNA, Dialect
from .drawing import generator, seed_after
from .errors import Remark, WildcardError
from .library import Library
from .outcomes import Outcomes
from .parser import parse_again
from .picks import Pick
from .resolving import Resolver
from .sampler import Sampler
from .tidying import tidy
from .tree import Template

NO_LIBRARY = Library()
MAX_OUTCOMES = 10_000

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Expansion:
    """One outcome of a text.

    Attributes:
        text: What came out.
        picks: Every draw, in the order in which they were finished.
        warnings: What was not as its author meant it: unknown names, unreadable files, open braces.
        seed: `expand` with this seed and position gives the same again.
        position: Which outcome `@` and `!` took.
    """

    text: str
    picks: tuple[Pick, ...]
    warnings: tuple[Remark, ...]
    seed: int
    position: int


def expand(
    text: str,
    seed: int,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
    position: int | None = None,
) -> Expansion:
    """Return one outcome of a text.

    Args:
        text: What is to be expanded.
        seed: Where chance begins; 0 and negative numbers are seeds like others.
        library: Where the files are.
        dialect: Which grammar the text is in; see `find_dialect`.
        position: Which outcome `@` and `!` take; None: the one with the number `seed`.

    Raises:
        WildcardError: The text is nested too deeply, or grows too long.
    """
    return Roller(text, library, dialect).roll(seed, seed if position is None else position)


class Roller:
    """One text, of which many outcomes are asked for. Files are looked at once for all of them.

    Args:
        text: What is to be expanded.
        library: Where the files are.
        dialect: Which grammar the text is in.
        deadline: Stops what takes too long.

    Raises:
        WildcardError: The text is nested too deeply, or too long.
    """

    def __init__(
        self,
        text: str,
        library: Library = NO_LIBRARY,
        dialect: Dialect = LUNA,
        deadline: Deadline = NEVER,
    ) -> None:
        self._resolver = Resolver(library, dialect, deadline)
        self._template: Template = parse_again(text, dialect)

    def roll(self, seed: int, position: int) -> Expansion:
        """Return the outcome of a seed and a position.

        Raises:
            WildcardError: The text is nested too deeply, grows too long, or takes too long.
        """
        resolver, template = self._resolver, self._template
        resolver.remarks = {}
        sampler = Sampler(resolver, generator(seed), position)
        result = _guarded(lambda: sampler.text(template.root))
        if resolver.dialect.tidy:
            result = tidy(result)
        warnings = (*template.remarks, *resolver.remarks)
        return Expansion(result, tuple(sampler.picks), warnings, seed, position)


def batch(
    text: str,
    seed: int,
    count: int,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
) -> list[Expansion]:
    """Return outcomes for the seeds `seed`, `seed` + 1, …, with the positions 0, 1, …. After 2^64 - 1 comes 0.

    Each is what `expand` gives for its seed and position alone. Files are looked at once for all.

    Raises:
        WildcardError: The text is nested too deeply, or grows too long.
    """
    roller = Roller(text, library, dialect)
    return [roller.roll(seed_after(seed, item), item) for item in range(count)]


def count(
    text: str,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
    deadline: Deadline = NEVER,
) -> int:
    """Return how many outcomes a text has. Options and values that are written alike count once.

    Raises:
        WildcardError: They cannot be counted, or not before the deadline.
    """
    outcomes = Outcomes(Resolver(library, dialect, deadline))
    return _guarded(lambda: outcomes.count(parse_again(text, dialect).root))


def enumerate_outcomes(
    text: str, library: Library = NO_LIBRARY, dialect: Dialect = LUNA, start: int = 0
) -> Iterator[str]:
    """Yield all outcomes of a text, one when it is asked for, beginning with number `start`.

    Two ways to choose may give the same text, which then comes twice.

    Raises:
        WildcardError: They cannot be counted.
    """
    outcomes = Outcomes(Resolver(library, dialect))
    root = parse_again(text, dialect).root
    total = _guarded(lambda: outcomes.count(root))
    for index in range(start, total):
        outcome = _guarded(lambda index=index: outcomes.text(root, index))  # type: ignore[misc]
        yield tidy(outcome) if dialect.tidy else outcome


def probabilities(
    text: str,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
    limit: int = MAX_OUTCOMES,
) -> dict[str, float]:
    """Return every text that can come out, with its probability, the most probable first.

    `@` and `!` count as chance.

    Raises:
        WildcardError: There are more than `limit`.
    """
    root = parse_again(text, dialect).root
    found = _guarded(lambda: Weighing(Resolver(library, dialect), limit).of(root))
    chances: dict[str, float] = {}
    for outcome, chance in found.items():
        outcome = tidy(outcome) if dialect.tidy else outcome
        chances[outcome] = chances.get(outcome, 0.0) + chance
    return dict(sorted(chances.items(), key=lambda item: (-item[1], item[0])))


def _guarded(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except RecursionError as error:
        raise WildcardError(
            "The text is nested too deeply.",
            "Look for values that refer to others, which refer to others, and so on.",
        ) from error

"""What a text can become, for somebody who waits for the answer: bounded in number, length and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .deadline import Deadline
from .dialects import LUNA, Dialect
from .drawing import seed_after
from .engine import NO_LIBRARY, Expansion, Roller, count
from .errors import Remark, WildcardError
from .library import Library
from .report import all_warnings, as_data

MAX_TEXT = 100_000  # characters
MAX_COUNT = 100
MAX_CHARACTERS = 2_000_000  # of all the answers
SECONDS = 3.0  # for texts, and as many for their number
LARGEST_EXACT = 2**53 - 1  # what a page can hold as a number


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        text: The template.
        seed: Of the first outcome; the next ones have those after it.
        count: How many outcomes.
        position: Which outcome `@` and `!` take at first; None: that with the seed's number.
    """

    text: str
    seed: int
    count: int
    position: int | None = None


def preview(
    question: Question,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Return `{texts, picks, warnings, combinations, combinations_text}`.

    Outcome i is what a node gives for the seed + i. What cannot be counted in time has None as its
    `combinations`, and a reason in words; a number beyond what a page can hold has only the words.

    Raises:
        WildcardError: The text has no expansion, or not even one in the time that there is.
    """
    warnings: list[Remark] = []
    expansions = _texts(question, library, dialect, seconds, warnings)
    number, words = _combinations(question.text, library, dialect, seconds)
    return {
        "texts": [expansion.text for expansion in expansions],
        "picks": [as_data(expansion, dialect)["picks"] for expansion in expansions],
        "warnings": all_warnings(expansions, warnings),
        "combinations": number,
        "combinations_text": words,
    }


def _texts(
    question: Question,
    library: Library,
    dialect: Dialect,
    seconds: float,
    warnings: list[Remark],
) -> list[Expansion]:
    roller = Roller(question.text, library, dialect, Deadline(seconds))
    expansions: list[Expansion] = []
    length = 0
    for item in range(question.count):
        try:
            seed = seed_after(question.seed, item)
            position = seed if question.position is None else question.position + item
            expansions.append(roller.roll(seed, position))
        except WildcardError as error:
            if not expansions:
                raise
            warnings.append(Remark(f"Text {item} and those after it are missing. {error}"))
            break
        length += len(expansions[-1].text)
        if length > MAX_CHARACTERS:
            warnings.append(Remark(f"The texts are so long that only {item + 1} are shown."))
            break
    return expansions


def _combinations(
    text: str, library: Library, dialect: Dialect, seconds: float
) -> tuple[int | None, str]:
    try:
        number = count(text, library, dialect, Deadline(seconds))
    except WildcardError as error:
        return None, error.message
    return (number if number <= LARGEST_EXACT else None), in_words(number)


def in_words(number: int) -> str:
    """Return a number as people write it: with spaces, or as a power of ten."""
    if number < 10**15:
        return f"{number:,}".replace(",", " ")
    exponent = int(number.bit_length() * 0.30102999566398)  # log10(2): at most one too many
    while 10**exponent > number:
        exponent -= 1
    tenths = number * 10 // 10**exponent
    return f"about {tenths // 10}.{tenths % 10} × 10^{exponent}"

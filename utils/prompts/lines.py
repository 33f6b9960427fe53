"""One line of a text file: by number, or as a seed decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..errors import InputError
from ..seeded_draw import SeededDraw


class LineChoice(str, Enum):
    """How a line is chosen."""

    RANDOM = "random"
    SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True)
class LineRange:
    """Which lines take part, by their numbers from 0.

    Attributes:
        start: The first.
        stop: The first that does not; -1: all to the end.
        step: Every how manieth.
    """

    start: int = 0
    stop: int = -1
    step: int = 1


@dataclass(frozen=True, slots=True)
class ChosenLine:
    """A line, its number from 0, and how many take part."""

    text: str
    index: int
    total: int


def lines_of(text: str) -> list[str]:
    """Return the lines that count: not empty, and no comments, which begin with #."""
    stripped = (line.strip() for line in text.split("\n"))
    return [line for line in stripped if line and not line.startswith("#")]


def choose_line(
    lines: list[str], choice: LineChoice, number: int, within: LineRange, file: str
) -> ChosenLine:
    """Choose a line.

    Args:
        lines: All of the file.
        choice: Whether `number` counts lines or is a seed.
        number: Behind the last line comes the first again.
        within: Which take part.
        file: For messages.

    Raises:
        InputError: No line takes part.
    """
    stop = len(lines) if within.stop == -1 else within.stop
    taking_part = range(len(lines))[within.start : stop : within.step]
    if not taking_part:
        raise InputError(
            f"'{file}' has {len(lines)} lines, and none from number {within.start} to before {stop}.",
            "Lines count from 0; empty ones and comments do not count.",
        )
    place = number % len(taking_part)
    if choice is LineChoice.RANDOM:
        place = int(SeededDraw(number, "line").fraction() * len(taking_part))
    return ChosenLine(lines[taking_part[place]], taking_part[place], len(taking_part))


def joined(text: str, added: str, delimiter: str, *, before: bool) -> str:
    """Return a text with another before or behind it; the delimiter only between two."""
    parts = (added, text) if before else (text, added)
    return delimiter.join(part for part in parts if part.strip())

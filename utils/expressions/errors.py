"""What is wrong with an expression, shown with its place."""

from __future__ import annotations

from ..errors import InputError


class ExpressionError(InputError):
    """An expression cannot be computed.

    Args:
        why: In words, without a full stop.
        hint: What to do.
        source: The whole expression.
        place: Its line, from 1, the first character that is meant, from 0, and the first that is not.
    """

    def __init__(self, why: str, hint: str, source: str, place: tuple[int, int, int]) -> None:
        line, start, end = place
        lines = source.split("\n")
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        from_left = max(0, start - 60)  # a long line is shown around the place
        shown = shown[from_left : start + 60]
        marks = max(1, min(end, from_left + len(shown)) - start)
        where = f"line {line}, column {start + 1}" if len(lines) > 1 else f"column {start + 1}"
        caret = f"{' ' * (start - from_left)}{'^' * marks}"
        super().__init__(f"In {where} of the expression: {why}.\n  {shown}\n  {caret}\n", hint)
        self.line = line
        self.start = start


class BadValueError(Exception):
    """A function or operation got what it cannot work with; the evaluator adds the place.

    Args:
        why: In words, without a full stop.
        hint: What to do; may be empty.
    """

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint

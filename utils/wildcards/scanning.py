"""A first pass over a text, in linear time: comments go, and every bracket finds its partner.

The parser then never searches for the end of anything, which is what keeps it linear for any input.
"""

from __future__ import annotations

import bisect
import re
from functools import cache

from .dialects import Comments, Dialect
from .errors import Remark, WildcardError

MAX_NESTING = 50  # of braces in one text
MAX_TEXT = 1_000_000  # characters


class Scan:
    """A text without its comments.

    Attributes:
        text: What is left.
        close: Where the brace that opens here is closed.
        bars: The `|` that belong to the brace that opens here.
    """

    def __init__(self, text: str, dialect: Dialect) -> None:
        if len(text) > MAX_TEXT:
            raise WildcardError(
                f"The text has {len(text)} characters; at most {MAX_TEXT} can be expanded."
            )
        self.text, self._numbers = without_comments(text, dialect.comments)
        self._starts = [0, *(m.end() for m in re.finditer("\n", self.text))]
        self.close: dict[int, int] = {}
        self.bars: dict[int, list[int]] = {}
        self.remarks: list[Remark] = []
        self._match_braces(_braces(dialect.escapes))

    def line(self, offset: int) -> int:
        """Return the line of the original text, counted from 1."""
        return self._numbers[bisect.bisect_right(self._starts, offset) - 1]

    def _match_braces(self, pattern: re.Pattern[str]) -> None:
        open_braces: list[int] = []
        for match in pattern.finditer(self.text):
            character, at = match.group(), match.start()
            if character == "{":
                open_braces.append(at)
                self.bars[at] = []
            elif character == "}" and open_braces:
                self._check_nesting(len(open_braces), at)
                self.close[open_braces.pop()] = at
            elif character == "|" and open_braces:
                self.bars[open_braces[-1]].append(at)
        for at in open_braces:
            message = "this '{' is never closed; it stays in the text. Close it with '}'."
            self.remarks.append(Remark(message, "", self.line(at)))
            if len(self.remarks) == 10:
                break

    def _check_nesting(self, depth: int, at: int) -> None:
        if depth > MAX_NESTING:
            raise WildcardError(
                f"In line {self.line(at)}, braces are nested more than {MAX_NESTING} deep.",
                "Put inner parts into files of their own.",
            )


def without_comments(text: str, comments: Comments) -> tuple[str, list[int]]:
    """Return the text without comments, and the original number of each line that is left."""
    lines = text.split("\n")
    numbers = list(range(1, len(lines) + 1))
    if comments is Comments.NOWHERE or "#" not in text:
        return text, numbers
    if comments is Comments.ANYWHERE:
        return "\n".join(line.partition("#")[0] for line in lines), numbers
    kept: list[str] = []
    kept_numbers: list[int] = []
    joins = False
    for number, line in zip(numbers, lines, strict=True):
        if line.lstrip().startswith("#"):
            joins = comments is Comments.LINES
            continue
        line = line if comments is Comments.LINES else _without_trailing_comment(line)
        if joins and kept:
            kept[-1] += f" {line}"
        else:
            kept.append(line)
            kept_numbers.append(number)
        joins = False
    return "\n".join(kept), kept_numbers or [1]


def _without_trailing_comment(line: str) -> str:
    """Cut off ` # comment`; the space before it goes too."""
    at = line.find("# ")
    while at > 0:
        if line[at - 1].isspace():
            return line[:at].rstrip()
        at = line.find("# ", at + 1)
    return line.rstrip() if at == 0 else line


@cache
def _braces(escapes: str) -> re.Pattern[str]:
    return re.compile(rf"\\[{re.escape(escapes)}]|[{{}}|]" if escapes else r"[{}|]")

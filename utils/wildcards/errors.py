"""What cannot be expanded, and what was noticed on the way."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import InputError


class WildcardError(InputError):
    """A text has no expansion: it is nested too deeply, grows too long, or has too many outcomes."""


class Remark(NamedTuple):
    """Something in a text or a file that is not as its author meant it. The expansion goes on.

    Attributes:
        message: What it is, and what to do.
        file: The file, as it is called below the library's folder; "" for the text itself.
        line: Counted from 1; 0 when the remark is about the whole file.
    """

    message: str
    file: str = ""
    line: int = 0

    @classmethod
    def of_file(cls, problem: str, file: str) -> Remark:
        """Return what is wrong with a file; the problem may begin with `line 3: `."""
        place = re.match(r"line (\d+): ", problem)
        if place is None:
            return cls(f"{problem}.", file)
        return cls(f"{problem[place.end() :]}.", file, int(place.group(1)))

    def __str__(self) -> str:
        place = self.file or ("line" if self.line else "")
        if self.file and self.line:
            place = f"{self.file}:{self.line}"
        elif self.line:
            place = f"line {self.line}"
        return f"{place}: {self.message}" if place else self.message

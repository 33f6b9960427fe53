"""The dialects: the same grammar, with the differences that people's texts depend on.

A feature that is off leaves its characters in the text as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import WildcardError
from .joining import Joining


class Comments(Enum):
    """Where a comment begins."""

    NOWHERE = "nowhere"
    LINES = "a line that starts with #; the line after it is joined to the one before"
    SPACED = "# at the start of a line, or between two spaces"
    ANYWHERE = "# anywhere"


class Trim(Enum):
    """Which space around an option does not belong to it."""

    NONE = "none"
    LEFT = "left"
    LINES = "left, and at the right from the first line break on"
    BOTH = "both"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)  # compared and hashed by identity
class Dialect:
    """What one dialect does.

    Attributes:
        separator: Between several options that are drawn at once.
        escapes: Characters that a backslash makes literal.
        files: Luna's own forms: `{file:path}`, `{1-10}`, and `[path]` in templates.
        variables: `${x=…}`, `${x}`, and values in brackets after a name.
        sets_first: A variable is set from the beginning of the part in which it is set.
        samplers: The marks `~`, `@` and `!`.
        wraps: `%{text … text$$inner}`.
        quantity: What stands between the picks of `3#__name__`; None: `separator`.
        trim: What is cut off around options and values.
        tidy: Double spaces and commas that an empty pick leaves are removed.
        joining: Where the separator stands when some of several picks are empty.
        distinct: Options that are written alike are drawn only once.
        bare_weights: `2::a` weighs, `2 ::a` does not, and a space behind `::` is part of the option.
        text_weights: `3::line` weighs in text files too.
        sorted_values: Values are sorted, and each counts once.
        crossing_star: `*` in a name matches `/` too, and not only where nothing is found otherwise.
    """

    name: str
    separator: str = ", "
    comments: Comments = Comments.NOWHERE
    escapes: str = ""
    files: bool = False
    variables: bool = True
    sets_first: bool = False
    samplers: bool = True
    wraps: bool = False
    quantity: str | None = None
    trim: Trim = Trim.LEFT
    tidy: bool = False
    joining: Joining = Joining.FILLED
    distinct: bool = True
    bare_weights: bool = False
    text_weights: bool = True
    sorted_values: bool = False
    crossing_star: bool = False


LUNA = Dialect(
    name="luna",
    comments=Comments.SPACED,
    escapes="{}|$_#%",
    files=True,
    wraps=True,
    trim=Trim.LINES,
    tidy=True,
)
DYNAMICPROMPTS = Dialect(
    name="dynamicprompts",
    separator=",",
    comments=Comments.ANYWHERE,
    sets_first=True,
    wraps=True,
    joining=Joining.EDGES,
    bare_weights=True,
    distinct=False,
    text_weights=False,
    sorted_values=True,
    crossing_star=True,
)
IMPACT = Dialect(
    name="impact",
    separator=" ",
    comments=Comments.LINES,
    variables=False,
    samplers=False,
    quantity="|",
    trim=Trim.NONE,
    joining=Joining.ALL,
    distinct=False,
    bare_weights=True,
    crossing_star=True,
)
A1111_SAFE = Dialect(name="a1111-safe", escapes="{}|$_")

DIALECTS = {dialect.name: dialect for dialect in (LUNA, DYNAMICPROMPTS, IMPACT, A1111_SAFE)}


def find_dialect(name: str) -> Dialect:
    """Return a dialect by its name.

    Raises:
        WildcardError: There is none of that name.
    """
    if name not in DIALECTS:
        raise WildcardError(
            f"There is no dialect '{name}'.", f"Choose one of {', '.join(DIALECTS)}."
        )
    return DIALECTS[name]

"""What a text is made of. The parser builds these, and everything else reads them.

Literal text is a plain `str`, so that the common case costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate

from .errors import Remark


class Method(Enum):
    """How one of several is chosen."""

    RANDOM = "~"
    CYCLICAL = "@"
    COMBINATORIAL = "!"


@dataclass(frozen=True, eq=False, slots=True)
class Sequence:
    """One thing after the other. Variables that it sets are known until it ends."""

    parts: tuple[Node, ...]
    sets_variables: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """`{a|b}`: between `low` and `high` of the options, each at most once, in random order.

    One option that is a reference stands for all the values that it names.
    """

    options: tuple[Node, ...]
    weights: tuple[float, ...]
    low: int
    high: int
    separator: str
    method: Method
    source: str
    written: tuple[str, ...]  # the options
    cumulative: tuple[float, ...] | None = field(init=False)  # None when all weigh the same

    def __post_init__(self) -> None:
        same = len(set(self.weights)) <= 1
        object.__setattr__(self, "cumulative", None if same else tuple(accumulate(self.weights)))


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """`__name__`. `source` is how it is written, and stays when there is nothing of that name."""

    name: Node
    method: Method
    arguments: tuple[tuple[str, Node], ...]
    source: str
    line: int
    in_tag: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class FilePick:
    """`{file}`, `{file:path}`, `{file: text [path]}`: from the templates or leaves of one file.

    `otherwise` is what the braces mean when there is no such file, if they can mean something else.
    """

    file: str
    path: Node | None
    body: Node | None
    otherwise: Node | None
    source: str
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Slot:
    """`[path]` in a template: a leaf of the template's own file."""

    path: str
    source: str
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class NumberRange:
    """`{low-high:step}`: low, low + step, … as integers of 10**-decimals."""

    low: int
    step: int
    count: int
    decimals: int
    source: str

    def text(self, index: int) -> str:
        """Return the number at an index."""
        value = self.low + index * self.step
        if not self.decimals:
            return str(value)
        sign = "-" if value < 0 else ""
        whole, part = divmod(abs(value), 10**self.decimals)
        return f"{sign}{whole}.{part:0{self.decimals}d}"


@dataclass(frozen=True, eq=False, slots=True)
class Assignment:
    """`${name=value}`. `once`: rolled here, not at each use. `keep`: only if it is not set yet."""

    name: str
    value: Node
    once: bool
    keep: bool


@dataclass(frozen=True, eq=False, slots=True)
class Variable:
    """`${name}` or `${name:default}`."""

    name: str
    default: Node | None
    source: str
    line: int


@dataclass(frozen=True, eq=False, slots=True)
class Wrap:
    """`%{before … after$$inner}`: the inner text in place of the dots."""

    wrapper: Node
    inner: Node


Node = (
    str
    | Sequence
    | Choice
    | Reference
    | FilePick
    | Slot
    | NumberRange
    | Assignment
    | Variable
    | Wrap
)


@dataclass(frozen=True, eq=False, slots=True)
class Template:
    """A parsed text."""

    root: Node
    remarks: tuple[Remark, ...] = ()


def sequence_of(parts: SequenceOf[Node]) -> Node:
    """Return the simplest node for parts in a row."""
    if not parts:
        return ""
    if len(parts) == 1 and not isinstance(parts[0], Assignment):
        return parts[0]
    return Sequence(tuple(parts), any(isinstance(part, Assignment) for part in parts))

"""What a file holds: lists of values, and in structured files the branches that they hang on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from .dialects import Dialect
from .names import as_key, dashed, normal
from .numbers import split_weight
from .parser import is_dynamic, parse
from .tree import Node

# Keys at the top of a file that say something about the file.
DESCRIBING = frozenset({"templates", "usage_notes", "category", "description", "_suffix"})
TEMPLATES = "templates"
MAX_MATCHES = 256  # patterns of which the lists of a file are kept


Names = tuple[str, ...]  # parts of a name


class Origin(NamedTuple):
    """Where a value is written. `line` 0: to be looked up in the file."""

    file: str
    line: int = 0


class Values:
    """A list to draw from.

    Attributes:
        texts: The values, without weights.
        weights: One for each, or None when all weigh the same. 0 is never drawn.
        origins: Where each is written: one for all, or one for each.
        path: Of keys, inside a structured file.
    """

    def __init__(
        self,
        texts: Sequence[str],
        weights: Sequence[float] | None,
        origins: Origin | Sequence[Origin],
        path: str = "",
        raw: Sequence[str] | None = None,
    ) -> None:
        self.texts = texts
        self.weights = (
            None if weights is None or (len(set(weights)) == 1 and weights[0]) else weights
        )
        self.origins = origins
        self.path = path
        self._raw = raw
        self._lists: Sequence[Values] = ()  # that these values were put together from
        self._trees: dict[tuple[Dialect, bool], dict[int, Node]] = {}
        self._plain: dict[tuple[Dialect, bool], bool] = {}

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def cumulative(self) -> list[float] | None:
        """The weights added up; None when all weigh the same."""
        return None if self.weights is None else list(accumulate(self.weights))

    @cached_property
    def drawable(self) -> Sequence[int]:
        """The indexes of the values that weigh something."""
        if self.weights is None:
            return range(len(self.texts))
        return [index for index, weight in enumerate(self.weights) if weight > 0]

    def weight(self, index: int) -> float:
        """Return the weight of a value."""
        return 1.0 if self.weights is None else self.weights[index]

    def at(self, share: float) -> int:
        """Return the index of the value at a share of the whole weight, from 0 to below 1."""
        cumulative = self.cumulative
        if cumulative is None:
            return int(share * len(self.texts))
        found = bisect_right(cumulative, share * cumulative[-1])
        return min(found, len(cumulative) - 1)

    def origin(self, index: int) -> Origin:
        """Return where a value is written."""
        return self.origins if isinstance(self.origins, Origin) else self.origins[index]

    def tree(self, index: int, dialect: Dialect, slots: bool) -> Node:
        """Return a value parsed; it is parsed when it is first drawn."""
        trees = self._trees.get((dialect, slots))
        if trees is None:
            trees = self._trees[dialect, slots] = {}
        tree = trees.get(index)
        if tree is None:
            text = self.texts[index]
            tree = parse(text, dialect, slots).root if is_dynamic(text, dialect, slots) else text
            trees[index] = tree
        return tree

    def is_plain(self, dialect: Dialect, slots: bool) -> bool:
        """Is there nothing to expand in any value?"""
        plain = self._plain.get((dialect, slots))
        if plain is None:
            plain = not is_dynamic("\n".join(self.texts), dialect, slots)
            self._plain[dialect, slots] = plain
        return plain

    @cached_property
    def as_written(self) -> Values:
        """The lines of text files, in which `3::x` is nothing but text."""
        if any(values.as_written is not values for values in self._lists):
            return joined([values.as_written for values in self._lists], self.path)
        return self if self._raw is None else Values(self._raw, None, self.origins, self.path)

    @cached_property
    def sorted_once(self) -> Values:
        """Sorted, and each value only once."""
        unique: dict[tuple[str, float], Origin] = {}
        written = self.as_written
        for index, text in enumerate(written.texts):
            unique.setdefault((text, written.weight(index)), written.origin(index))
        keys = sorted(unique)
        weights = [weight for _, weight in keys]
        return Values([text for text, _ in keys], weights, [unique[key] for key in keys], self.path)

    @cached_property
    def unique(self) -> frozenset[str]:
        """The values as a set."""
        return frozenset(self.texts)

    @cached_property
    def distinct(self) -> Values:
        """Each value only once, with the weights of its copies added up."""
        if len(self.unique) == len(self.texts):
            return self
        weights: dict[str, float] = {}
        origins: dict[str, Origin] = {}
        for index, text in enumerate(self.texts):
            weights[text] = weights.get(text, 0.0) + self.weight(index)
            origins.setdefault(text, self.origin(index))
        return Values(list(weights), list(weights.values()), list(origins.values()), self.path)


class Branch:
    """A mapping of a structured file."""

    def __init__(self, children: dict[str, Part], path: str = "") -> None:
        self.children = children
        self.path = path
        self._by_normal = {normal(key): key for key in reversed(children)}
        self._loosely = {as_key(key): key for key in reversed(children)}

    def child(self, key: str) -> Part | None:
        """Return what is under a key; its spelling counts only where there are several."""
        found = self.children.get(key)
        if found is None:
            spelled = self._by_normal.get(normal(key)) or self._loosely.get(as_key(key), "")
            found = self.children.get(spelled)
        return found

    def along(self, keys: Sequence[str]) -> Part | None:
        """Return what is under a path of keys; a key of the file may be several of them with `/` between."""
        for used in range(1, len(keys) + 1):
            part = self.child("/".join(keys[:used]))
            if part is not None and used < len(keys):
                part = part.along(keys[used:]) if isinstance(part, Branch) else None
            if part is not None:
                return part
        return None

    @cached_property
    def leaves(self) -> Values:
        """All values below, without the keys that only describe the file."""
        return joined(list(self._lists()), self.path)

    def _lists(self) -> Iterator[Values]:
        for key, child in self.children.items():
            if not self.path and key in DESCRIBING:
                continue
            if isinstance(child, Values):
                yield child
            else:
                yield from child._lists()


Part = Branch | Values


class Document:
    """A file that was read."""

    def __init__(self, file: str, root: Part) -> None:
        self.file = file
        self.root = root
        self._matches: dict[Hashable, list[Values]] = {}

    @cached_property
    def templates(self) -> Values | None:
        """All templates of the file."""
        found = self.root.child(TEMPLATES) if isinstance(self.root, Branch) else None
        return None if found is None else values_of(found)

    def template_group(self, name: str) -> Values | None:
        """Return the templates of a group."""
        found = self.root.child(TEMPLATES) if isinstance(self.root, Branch) else None
        group = found.child(name) if isinstance(found, Branch) else None
        return None if group is None else values_of(group)

    def find(self, keys: Sequence[str]) -> Values | None:
        """Return the values below a path of keys."""
        part: Part | None = self.root
        for key in keys:
            part = part.child(key) if isinstance(part, Branch) else None
        if part is None and len(keys) > 1 and isinstance(self.root, Branch):
            part = self.root.along(keys)
        return None if part is None else values_of(part)

    def matching(
        self,
        pattern: Hashable,
        fits: Callable[[Names], bool],
        ending: Names,
        names: Sequence[Names],
    ) -> list[Values]:
        """Return the lists whose names fit; it is kept for as long as the file stays as it is.

        Args:
            pattern: What the answer is kept under.
            fits: Whether a name does, as names are compared, with hyphens for spaces.
            ending: Up to two parts with which all names end that fit.
            names: What the file goes by: a list's names are these, and its path of keys behind.
        """
        key = (pattern, tuple(names))
        known = self._matches.get(key)
        if known is None:
            known = [
                values
                for path, values in self._ending_in(ending)
                if any(fits((*name, *path)) for name in names)
            ]
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            self._matches[key] = known
        return known

    def _ending_in(self, ending: Names) -> Iterator[tuple[Names, Values]]:
        """Yield the lists whose names may end so; that of a short path ends as its file's name does."""
        if not ending:
            yield from self._spelled
            return
        short = [()] if len(ending) == 1 else [(), ("", *ending[1:])]
        for key in (*short, ending):
            yield from self._by_ending.get(key, ())

    @cached_property
    def _by_ending(self) -> dict[Names, list[tuple[Names, Values]]]:
        """The lists by the last part of their paths, and by the last two."""
        found: dict[Names, list[tuple[Names, Values]]] = {}
        for path, values in self._spelled:
            two = path[-2:] if len(path) > 1 else ("", *path)
            for key in {path[-1:], two} if path else {()}:
                found.setdefault(key, []).append((path, values))
        return found

    @cached_property
    def _spelled(self) -> list[tuple[Names, Values]]:
        """The lists with their paths as they are compared."""
        return [
            (tuple(dashed(normal(key)) for key in path), values) for path, values in self.lists()
        ]

    def lists(self) -> Iterator[tuple[tuple[str, ...], Values]]:
        """Yield every list of the file with its path of keys."""
        waiting: list[tuple[tuple[str, ...], Part]] = [((), self.root)]
        while waiting:
            path, part = waiting.pop()
            if isinstance(part, Values):
                yield path, part
            else:
                waiting += [
                    ((*path, *key.split("/")), part.children[key])
                    for key in reversed(part.children)
                ]


def values_of(part: Part) -> Values:
    """Return a list, or all that is below a branch."""
    return part.leaves if isinstance(part, Branch) else part


def joined(lists: Sequence[Values], path: str = "") -> Values:
    """Return several lists as one."""
    if len(lists) == 1:
        return lists[0]
    texts = [text for values in lists for text in values.texts]
    weights = None
    if any(values.weights is not None for values in lists):
        weights = [values.weight(index) for values in lists for index in range(len(values))]
    origins = [values.origin(index) for values in lists for index in range(len(values))]
    values = Values(texts, weights, origins, path)
    values._lists = lists
    return values


def weighted_lines(lines: Sequence[str], origin: Origin) -> Values:
    """Return the values of a text file, where a line may begin with its weight."""
    if not any("::" in line for line in lines):
        return Values(lines, None, origin)
    texts, weights = [], []
    for line in lines:
        weighted = split_weight(line)
        weights.append(weighted[0] if weighted else 1.0)
        texts.append(weighted[1].strip() if weighted else line)
    return Values(texts, weights, origin, raw=lines)

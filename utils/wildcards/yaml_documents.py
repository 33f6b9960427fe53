"""YAML → values. Only composed, never constructed: no tag can run or build anything.

Scalars stay as they are written, so that `1.50`, `yes` and `007` come out as they went in.
"""

from __future__ import annotations

from typing import Any

import yaml

from .errors import WildcardError
from .structured import Scalars, below
from .values import Branch, Part

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"
MAX_REPEATS = 100_000  # of parts of a file by aliases, which can make very many values from few
_MERGE = "tag:yaml.org,2002:merge"


def read(text: str, scalars: Scalars) -> Part:
    """Return the root of a YAML file.

    Raises:
        WildcardError: It is not well-formed; the text says where and what to do.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise WildcardError(_explained(error, text)) from error
    except RecursionError as error:
        raise WildcardError("it is nested too deeply to be read as YAML") from error
    if node is None:
        return scalars.values([], "")
    return _Reader(text, scalars).part(node, "", 0)


class _Reader:
    def __init__(self, text: str, scalars: Scalars) -> None:
        self.text = text
        self.scalars = scalars
        self.seen: set[int] = set()
        self.repeats = 0
        self.above: set[int] = set()  # nodes that are being read: an alias may point to one of them

    def part(self, node: yaml.Node, path: str, depth: int) -> Part:
        """Return a mapping as a branch, and anything else as a list."""
        self.scalars.check_depth(depth)
        if isinstance(node, yaml.MappingNode) and self._as_item(node) is None:
            return self._branch(node, path, depth)
        return self.scalars.values(self._items(node, depth), path, node.start_mark.line + 1)

    def _branch(self, node: yaml.MappingNode, path: str, depth: int) -> Branch:
        self._count(node)
        self._enter(node)
        children: dict[str, Part] = {}
        for key, value in _pairs(node):
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.scalars.remark("this key is no text; it is left out. Quote it.", line)
                continue
            if key.value in children:
                self.scalars.remark(
                    f"the key '{key.value}' is there twice; only the last one counts.", line
                )
            children[key.value] = self.part(value, below(path, key.value), depth + 1)
        self.above.discard(id(node))
        return Branch(children, path)

    def _items(self, node: yaml.Node, depth: int) -> list[tuple[str, float, int]]:
        """Return the values of a scalar, an item, a list, or all below a mapping in a list."""
        self.scalars.check_depth(depth)
        self._count(node)
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            text = node.value.strip()
            if not text or node.tag == _NULL:
                return []
            return [(*self.scalars.weighted(text), line)]
        if isinstance(node, yaml.MappingNode):
            item = self._as_item(node)
            if item is not None:
                return [(*item, line)] if item[0] else []
            children = [value for _, value in _pairs(node)]
        else:
            children = node.value
        self._enter(node)
        found = [item for child in children for item in self._items(child, depth + 1)]
        self.above.discard(id(node))
        return found

    def _as_item(self, node: yaml.MappingNode) -> tuple[str, float] | None:
        """Return `{value: x, weight: 2}`, or `{a|b}` that its author forgot to quote."""
        line = node.start_mark.line + 1
        if node.flow_style and all(value.tag == _NULL for _, value in node.value):
            text = self.text[node.start_mark.index : node.end_mark.index]
            return (text, self.scalars.rules.get(text, 1.0)) if "|" in text else None
        fields = {
            key.value: value.value
            for key, value in _pairs(node)
            if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
        }
        return self.scalars.item(fields, line)

    def _count(self, node: yaml.Node) -> None:
        if id(node) not in self.seen:
            self.seen.add(id(node))
            return
        self.repeats += 1
        if self.repeats > MAX_REPEATS:
            raise WildcardError(
                f"line {node.start_mark.line + 1}: its aliases repeat more than {MAX_REPEATS} values"
            )

    def _enter(self, node: yaml.Node) -> None:
        if id(node) in self.above:
            raise WildcardError(
                f"line {node.start_mark.line + 1}: an alias points to what it is itself a part of"
            )
        self.above.add(id(node))


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping; those merged in by `<<` come first and yield."""
    merged: list[tuple[yaml.Node, yaml.Node]] = []
    own = []
    for key, value in node.value:
        if key.tag != _MERGE:
            own.append((key, value))
            continue
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for source in sources:
            merged += source.value if isinstance(source, yaml.MappingNode) else []
    names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
    return [pair for pair in merged if pair[0].value not in names] + own


def _explained(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is not well-formed"
    if mark is None:
        return f"it cannot be read as YAML: {' '.join(str(error).split())}"
    lines = text.split("\n")
    line = lines[mark.line].strip() if mark.line < len(lines) else ""
    hint = ""
    if mark.line < len(lines) and lines[mark.line].lstrip(" ").startswith("\t"):
        hint = ". YAML knows no tabs at the beginning of a line; write spaces there"
    elif "another document" in problem:
        hint = ". A file holds one document; what follows '---' has to go into a file of its own"
    elif any(character in line for character in "{}[]|*&!%@`#:"):
        hint = ". A value with any of {}[]|*&!%@`#: has to stand in quotes"
    return f"line {mark.line + 1}: it cannot be read as YAML: {problem}{hint}"

"""Changes of a YAML text that leave every other character of it as it is.

A YAML library that writes the whole file again, even one that knows comments, moves comments and spaces
about. So the text is read with PyYAML, which says where everything stands, and only what is new is put in.
What came of it is read again and compared with what was meant, before anybody sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import WildcardError
from .names import as_key

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"
_PLAIN = re.compile(r"\w(?:[\w '()./+-]*[\w')])?")
_EMPTY = frozenset({"", "~", "null"})
INDENT = 2

Data = Any  # texts, lists, and mappings as lists of pairs


@dataclass(frozen=True, slots=True)
class Edit:
    """A text with a change in it, and where that is."""

    text: str
    start: int
    end: int


def is_list(text: str) -> bool:
    """Is the whole file a list?

    Raises:
        WildcardError: The text is not well-formed.
    """
    return isinstance(_compose(text), yaml.SequenceNode)


def as_spelled(text: str, path: Sequence[str]) -> list[str]:
    """Return a path with its keys as the file spells them; a key of the file may have dots in it.

    Keys that are not there stay as they are.

    Raises:
        WildcardError: The text is not well-formed.
    """
    node: yaml.Node | None = _compose(text)
    found: list[str] = []
    rest = list(path)
    while rest and isinstance(node, yaml.MappingNode):
        children = {key.value: value for key, value in node.value if isinstance(key.value, str)}
        name, used = _matching(list(children), rest)
        if not used:
            break
        found.append(name)
        node, rest = children[name], rest[used:]
    return [*found, *rest]


def _matching(keys: Sequence[str], path: Sequence[str]) -> tuple[str, int]:
    """Return the key that a path begins with, and how many parts of the path it is; 0 when there is none."""
    loose = {as_key(key): key for key in reversed(keys)}
    for used in range(1, len(path) + 1):
        wanted = ".".join(path[:used])
        name = wanted if wanted in keys else loose.get(as_key(wanted))
        if name is not None:
            return name, used
    return "", 0


def items_at(text: str, path: Sequence[str]) -> list[str] | None:
    """Return the texts of the list at a path of keys; None when there is none.

    Raises:
        WildcardError: The text is not well-formed, or a mapping is there.
    """
    node: yaml.Node | None = _compose(text)
    for number, key in enumerate(path):
        node = _child(node, key, path[:number])
    if node is None or _is_null(node):
        return None
    if isinstance(node, yaml.ScalarNode):
        return [node.value]
    if isinstance(node, yaml.MappingNode):
        raise WildcardError(
            f"{_shown(path)} has keys below it, so nothing can be added to it as to a list.",
            "Name one of the keys in target_path, or a new one in new_category.",
        )
    return [_item_text(item) for item in node.value]


def append_items(text: str, path: Sequence[str], items: Sequence[str], *, inline: bool) -> Edit:
    """Add items at the end of the list at a path; levels and the list are made where there are none.

    Raises:
        WildcardError: The text is not well-formed, or something else is at the path.
    """
    before = items_at(text, path)
    way = _Way(text, path)
    node = way.node
    meant = _with_items(_data(_compose(text)), path, items)
    if isinstance(node, yaml.SequenceNode) and node.value:
        start = _inner_end(text, node)
        if node.flow_style:
            return way.checked(start, start, "".join(f", {_scalar(i)}" for i in items), meant)
        start = _end_of_line(text, start)
        column = _column(text, node)
        lines = [f"{way.newline}{' ' * column}- {_scalar(item)}" for item in items]
        return way.checked(start, start, "".join(lines), meant)
    return way.set([*(before or []), *items], inline=inline, meant=meant)


def set_items(text: str, path: Sequence[str], items: Sequence[str], *, inline: bool) -> Edit:
    """Make a path a list of these items, whatever was there; levels are made where there are none.

    Raises:
        WildcardError: The text is not well-formed, or a list is on the way.
    """
    meant = _set(_data(_compose(text)), path, lambda _: list(items))
    return _Way(text, path).set(items, inline=inline, meant=meant)


class _Way:
    """From the root of a text along a path, as far as it is there."""

    def __init__(self, text: str, path: Sequence[str]) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.root = _compose(text)
        self.parent: yaml.MappingNode | None = None
        self.pair: tuple[yaml.Node, yaml.Node] | None = None
        self.rest = list(path)  # keys that are not there; the first one is missing in `parent`
        self.node: yaml.Node | None = self.root
        shared = _shared(self.root)
        for number, key in enumerate(path):
            child = _child(self.node, key, path[:number])
            if not isinstance(self.node, yaml.MappingNode):
                return
            self.parent, self.node = self.node, child
            self.pair = next((p for p in self.parent.value if p[0].value == key), None)
            self.rest = list(path[number:]) if child is None else list(path[number + 1 :])
            if child is None:
                return
            if id(child) in shared:
                raise WildcardError(
                    f"{_shown(path[: number + 1])} is used in several places of the file (as an alias).",
                    "Change it in an editor.",
                )

    def set(self, items: Sequence[str], *, inline: bool, meant: Data) -> Edit:
        """Put a list where the way leads."""
        if self.parent is None:
            return self._into_empty(items, inline=inline, meant=meant)
        flow = bool(self.parent.flow_style)
        column = _column(self.text, self.parent)
        if self.pair is None:  # a new key at the end
            key, *rest = self.rest
            written = f"{_scalar(key)}:{self._value(rest, items, column, flow=flow, inline=inline)}"
            return self._new_key(written, meant)
        written = self._value(self.rest, items, column, flow=flow, inline=inline)
        return self._new_value(written, meant)

    def _into_empty(self, items: Sequence[str], *, inline: bool, meant: Data) -> Edit:
        key, *rest = self.rest
        written = f"{_scalar(key)}:{self._value(rest, items, 0, flow=False, inline=inline)}"
        if self.root is not None and not _is_null(self.root):
            start, end = self.root.start_mark.index, self.root.end_mark.index  # `{}`
            return self.checked(start, end, written, meant)
        kept = self.text.rstrip()
        gap = self.newline if kept else ""
        return self.checked(len(kept), len(self.text), f"{gap}{written}{self.newline}", meant)

    def _new_key(self, written: str, meant: Data) -> Edit:
        parent = self.parent
        assert parent is not None
        if not parent.value:  # `{}`
            start, end = parent.start_mark.index, parent.end_mark.index
            return self.checked(start, end, f"{{{written}}}", meant)
        start = _inner_end(self.text, parent)
        if parent.flow_style:
            return self.checked(start, start, f", {written}", meant)
        start = _end_of_line(self.text, start)
        return self.checked(
            start, start, f"{self.newline}{' ' * _column(self.text, parent)}{written}", meant
        )

    def _new_value(self, written: str, meant: Data) -> Edit:
        assert self.pair is not None
        key, value = self.pair
        start = self.text.index(":", key.end_mark.index) + 1
        end = max(start, _end(self.text, value))
        line_end = _end_of_line(self.text, start)
        if line_end < end and "#" in self.text[start:line_end]:  # a comment behind the key stays
            comment = self.text[start:line_end]
            if written.startswith(self.newline):
                return self.checked(start, end, f"{comment}{written}", meant)
            return self.checked(start, end, f"{written}{comment}", meant)
        return self.checked(start, end, written, meant)

    def _value(
        self, keys: Sequence[str], items: Sequence[str], column: int, *, flow: bool, inline: bool
    ) -> str:
        """Return what stands behind a key's colon: keys below it, and the list."""
        listed = f"[{', '.join(map(_scalar, items))}]"
        if flow:
            opened = "".join(f"{{{_scalar(key)}: " for key in keys)
            return f" {opened}{listed}{'}' * len(keys)}"
        written = ""
        for key in keys:
            column += INDENT
            written += f"{self.newline}{' ' * column}{_scalar(key)}:"
        if inline or not items:
            return f"{written} {listed}"
        column += _list_offset(self.root)
        return written + "".join(f"{self.newline}{' ' * column}- {_scalar(i)}" for i in items)

    def checked(self, start: int, end: int, written: str, meant: Data) -> Edit:
        """Return the changed text, if it says what was meant."""
        text = self.text[:start] + written + self.text[end:]
        try:
            is_meant = _data(_compose(text)) == meant
        except WildcardError:
            is_meant = False
        if not is_meant:
            raise WildcardError(
                "This file is written in a way in which the items cannot be put in without changing other "
                "parts of it.",
                "Add them in an editor, or choose another target_path.",
            )
        return Edit(text, start, start + len(written))


def _compose(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise WildcardError(
            f"{where}it cannot be read as YAML: {problem}.", "Correct that first."
        ) from error
    except RecursionError as error:
        raise WildcardError("It is nested too deeply to be read as YAML.") from error
    return node


def _child(node: yaml.Node | None, key: str, above: Sequence[str]) -> yaml.Node | None:
    """Return what is below a key; None when there is nothing, or a text that gives way to keys."""
    if isinstance(node, yaml.SequenceNode):
        raise WildcardError(
            f"{_shown(above)} is a list, so there can be no '{key}' below it.",
            "Choose a path that goes through keys only.",
        )
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _shown(path: Sequence[str]) -> str:
    return f"'{'.'.join(path)}'" if path else "The top of the file"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _item_text(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        fields = {key.value: value.value for key, value in node.value}
        return str(next((fields[k] for k in ("value", "text", "content") if k in fields), ""))
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def _end(text: str, node: yaml.Node) -> int:
    """Return where the last character of a node is, without comments and space behind it."""
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[: node.end_mark.index].rstrip())
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    return _inner_end(text, node)


def _inner_end(text: str, node: yaml.CollectionNode) -> int:
    """Return where the last character of the last thing in a node is."""
    key, last = node.value[-1] if isinstance(node, yaml.MappingNode) else (node, node.value[-1])
    if last.start_mark.index >= key.start_mark.index:
        return _end(text, last)
    # An alias: what it stands for is written further up.
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return int(key.end_mark.index)
    return len(text[: node.end_mark.index - bool(node.flow_style)].rstrip())


def _column(text: str, node: yaml.CollectionNode) -> int:
    """Return the column of a block's keys or dashes; its own mark may be that of an anchor."""
    if node.flow_style or not node.value:
        return int(node.start_mark.column)
    if isinstance(node, yaml.MappingNode):
        return int(node.value[0][0].start_mark.column)
    first = node.value[0].start_mark.index
    if first < node.start_mark.index:  # an alias, which is written further up
        return int(node.start_mark.column)
    dash = text.rfind("-", 0, first)
    return dash - text.rfind("\n", 0, dash) - 1


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return end - 1 if end > index and text[end - 1] == "\r" else end


def _scalar(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _EMPTY
    return text if plain else json.dumps(text, ensure_ascii=False)


def _list_offset(root: yaml.Node | None) -> int:
    """Return how far lists are indented below their keys in this file."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            for key, value in node.value:
                # One with an anchor or a tag begins there, beside its key.
                is_below = value.start_mark.line > key.start_mark.line
                if isinstance(value, yaml.SequenceNode) and not value.flow_style and is_below:
                    return int(value.start_mark.column - key.start_mark.column)
            waiting += [value for _, value in reversed(node.value)]
    return INDENT


def _shared(root: yaml.Node | None) -> set[int]:
    """Return the nodes that stand in several places."""
    seen: set[int] = set()
    shared: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            shared.add(id(node))
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return shared


# What a text says, without regard to how it is written


def _data(node: yaml.Node | None) -> Data:
    if node is None or _is_null(node):
        return None
    if isinstance(node, yaml.MappingNode):
        return {"keys": [(key.value, _data(value)) for key, value in node.value]}
    return (
        [_data(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value
    )


def _set(data: Data, path: Sequence[str], change: Callable[[Data], Data]) -> Data:
    if not path:
        return change(data)
    key, *rest = path
    pairs = list(data["keys"]) if isinstance(data, dict) else []
    for number, (name, value) in enumerate(pairs):
        if name == key:
            pairs[number] = (key, _set(value, rest, change))
            return {"keys": pairs}
    return {"keys": [*pairs, (key, _set(None, rest, change))]}


def _with_items(data: Data, path: Sequence[str], items: Sequence[str]) -> Data:
    def add(before: Data) -> Data:
        kept = before if isinstance(before, list) else [] if before is None else [before]
        return [*kept, *items]

    return _set(data, path, add)

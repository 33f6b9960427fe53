"""What a library holds at one moment: categories by name, and all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..wildcards.errors import Remark, WildcardError
from ..wildcards.names import normal
from .chains import Chain, read_chains
from .constraints import Constraint, read_constraints
from .expanders import Expander, read_expanders
from .items import Category, Item, Path
from .kinds import Kind
from .lora_links import Link, read_links
from .matching import Context
from .modifiers import Modifier, read_modifiers
from .records import Record, Source
from .tag_rules import TagRule, read_tag_rules

_READERS: dict[Kind, Callable[[Record, Context], Any]] = {
    Kind.CONSTRAINT: read_constraints,
    Kind.MODIFIER: read_modifiers,
    Kind.EXPANDER: read_expanders,
    Kind.CHAIN: read_chains,
    Kind.TAGS: read_tag_rules,
    Kind.LORA: read_links,
}


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file of rules that was read.

    Attributes:
        kind: Which rules.
        base: The category whose paths may stand in it without its name.
        root: Its content.
        source: Its name.
    """

    kind: Kind
    base: str
    root: Record
    source: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What an address in a text leads to: a chain, or a path in a category."""

    written: str
    chain: Chain | None
    category: str
    path: Path


class Content:
    """A library at one moment. Categories are read when they are asked for.

    Args:
        readers: Name of a category, as it is compared → what reads it.
        aliases: Further name → name.
        rule_files: All files of rules.
        remarks: What was noticed so far.
    """

    def __init__(
        self,
        readers: Mapping[str, Callable[[], Category]],
        aliases: Mapping[str, str],
        rule_files: Sequence[RuleFile],
        remarks: Sequence[Remark] = (),
    ) -> None:
        self._readers = readers
        self._aliases = aliases
        self._categories: dict[str, Category] = {}
        self._found: dict[tuple[str, Path], tuple[Item, ...]] = {}
        remarked = list(remarks)
        rules: dict[Kind, list[Any]] = {kind: [] for kind in _READERS}
        for file in rule_files:
            context = Context(Source(file.source), self._finder(file.base))
            rules[file.kind] += _READERS[file.kind](file.root, context)
            remarked += context.source.remarks
        self.remarks = tuple(remarked)
        self.constraints: list[Constraint] = rules[Kind.CONSTRAINT]
        self.modifiers: list[Modifier] = rules[Kind.MODIFIER]
        self.expanders: list[Expander] = rules[Kind.EXPANDER]
        self.links: list[Link] = rules[Kind.LORA]
        self._chains: dict[str, Chain] = {chain.name: chain for chain in rules[Kind.CHAIN]}
        self._tag_rules: list[TagRule] = rules[Kind.TAGS]

    @property
    def names(self) -> list[str]:
        """The categories, in order."""
        return sorted(self._readers)

    def category(self, name: str) -> Category:
        """Return a category, with the tags that rules give to its items.

        Raises:
            WildcardError: Its file cannot be read.
        """
        known = self._categories.get(name)
        if known is None:
            read = self._readers[name]()
            items = tuple(self._tagged(item) for item in read.items)
            known = self._categories[name] = replace(read, items=items)
        return known

    def reference(self, written: str) -> Reference | None:
        """Return what an address leads to; None when it leads nowhere.

        Raises:
            WildcardError: The file that it leads to cannot be read.
        """
        chain = self._chains.get(normal(written.strip()))
        if chain is not None:
            return Reference(written, chain, "", ())
        for name, path in self._readings(written):
            if name in self._readers and self.items(name, path):
                return Reference(written, None, name, path)
        return None

    def items(self, name: str, path: Path) -> tuple[Item, ...]:
        """Return the items of a category below a path."""
        key = (name, path)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self.category(name).find(path)
        return found

    def tree(self) -> dict[str, Any]:
        """Return category → keys → … → number of items; a file that cannot be read says why."""
        return {name: self._branch(name) for name in self.names}

    def _readings(self, written: str) -> Iterator[tuple[str, Path]]:
        for name, path in _readings(written):
            yield self._aliases.get(name, name), path

    def _branch(self, name: str) -> Any:
        try:
            items = self.category(name).items
        except WildcardError as error:
            return error.message
        if not any(item.path for item in items):
            return len(items)
        root: dict[str, Any] = {}
        for item in items:
            place = root
            for key in item.path[:-1]:
                below = place.setdefault(key, {})
                if not isinstance(below, dict):
                    below = place[key] = {"": below}
                place = below
            last = item.path[-1] if item.path else ""
            before = place.get(last, 0)
            if isinstance(before, dict):
                before[""] = before.get("", 0) + 1
            else:
                place[last] = before + 1
        return root

    def _tagged(self, item: Item) -> Item:
        tags = [rule.tags for rule in self._tag_rules if rule.place.holds(item)]
        return replace(item, tags=item.tags.union(*tags)) if tags else item

    def _finder(self, base: str) -> Callable[[str], Path]:
        base = normal(base)

        def find(written: str) -> Path:
            readings = list(self._readings(written))
            for name, path in readings:
                if name in self._readers:
                    return (name, *map(normal, path))
            if base in self._readers:
                return (base, *(normal(part) for part in _parts(written)))
            name, path = readings[0]
            return (name, *map(normal, path))

        return find


def _readings(written: str) -> list[tuple[str, Path]]:
    """Return the ways to part an address into category and path; a colon decides it."""
    head, colon, rest = written.replace("\\", "/").partition(":")
    if colon:
        return [(normal(head.strip()), _parts(rest))]
    parts = _parts(head)
    ways = [(normal(".".join(parts[:end])), parts[end:]) for end in range(len(parts), 0, -1)]
    return ways or [("", ())]


def _parts(path: str) -> Path:
    return tuple(part.strip() for part in path.replace(":", ".").split(".") if part.strip())

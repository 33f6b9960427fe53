"""Items of a category, and where they hang: what a name in a template is drawn from.

A structured file has a list `items` of mappings with ids; a hierarchical one has mappings whose ends are
lists of texts. Items never change once they are read, so no run leaves anything behind for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..wildcards.errors import Remark, WildcardError
from ..wildcards.names import normal
from ..wildcards.numbers import split_weight
from ..wildcards.structured import TEXT_KEYS
from .records import Record, Source

Path = tuple[str, ...]
# Keys that describe a file and hold no items.
_DESCRIBING = {
    "name", "description", "type", "version", "category", "usage_notes", "templates", "_suffix",
    "common_tags",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """Something that can be drawn.

    Attributes:
        category: Its category's name.
        path: Of keys in the category, as written.
        id: Unique in the category.
        text: What goes into the prompt.
        has_own_id: Whether the id is written in the file, not made up from path and number.
        weight: How likely it is beside others; 0 is never drawn.
        payload: What it brings beside its text.
        tags, blacklist, whitelist, requires: As they are compared.
        file: Where it is written.
        line: In that file.
        ways: The paths by which rules name it, beginning with the category.
        searched: What entries of rules are looked for in.
    """

    category: str
    path: Path
    id: str
    text: str
    has_own_id: bool = False
    weight: float = 1.0
    payload: str = ""
    tags: frozenset[str] = frozenset()
    blacklist: frozenset[str] = frozenset()
    whitelist: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    file: str = ""
    line: int = 0
    ways: tuple[Path, ...] = field(init=False)
    searched: str = field(init=False)

    def __post_init__(self) -> None:
        head, ids = normal(self.category), _split(self.id)
        path = tuple(map(normal, self.path))
        ways = ((head, *path, *ids), (head, *ids))
        object.__setattr__(self, "ways", ways)
        words = (self.id, self.text, self.category, ".".join(self.path))
        object.__setattr__(self, "searched", "\n".join(map(normal, words)))

    @property
    def address(self) -> str:
        """As it would stand in a template, without its id."""
        return f"{self.category}:{'.'.join(self.path)}" if self.path else self.category

    def lies_under(self, path: Path) -> bool:
        """Is the item, or what it hangs on, named by a path? `path` is as it is compared."""
        if any(way[: len(path)] == path for way in self.ways):
            return True
        return path == self.ways[1][1:]


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """All items of a name, and what is not as it should be in their file."""

    name: str
    items: tuple[Item, ...]
    remarks: tuple[Remark, ...] = ()

    def find(self, path: Path) -> tuple[Item, ...]:
        """Return the items below a path; where no path fits, those with a tag of that name."""
        if not path:
            return self.items
        whole = (normal(self.name), *map(normal, path))
        found = tuple(item for item in self.items if item.lies_under(whole))
        if found or len(path) > 1:
            return found
        return tuple(item for item in self.items if whole[1] in item.tags)


def read_category(name: str, root: Record, source: Source) -> Category:
    """Return the items of a file.

    Raises:
        WildcardError: Two of them have the same id; the text says in which lines.
    """
    reader = _Reader(name, root, source)
    start = root.fields.get("items")
    found = list(reader.items(root if start is None else start, (), outermost=start is None))
    known: dict[str, Item] = {}
    for item in found:
        before = known.setdefault(normal(item.id), item) if item.has_own_id else item
        # An alias may repeat an item at another path.
        if before is not item and (before.line != item.line or before.path == item.path):
            raise WildcardError(
                f"line {item.line}: the id '{item.id}' is that of line {before.line} already. "
                "Give each item an id of its own"
            )
    return Category(name, tuple(found), tuple(source.remarks))


def tags_of(words: Iterable[str]) -> frozenset[str]:
    """Return tags as they are compared."""
    return frozenset(normal(word.strip()) for word in words if word.strip())


def weighted_text(text: str) -> tuple[str, float]:
    """Part `3::text`."""
    found = split_weight(text)
    return (text, 1.0) if found is None else (found[1].strip(), found[0])


class _Reader:
    def __init__(self, name: str, root: Record, source: Source) -> None:
        self._name = name
        self._source = source
        common = root.fields.get("common_tags")
        self._common = tags_of(common.words) if common is not None else frozenset()
        self._counts: dict[Path, int] = {}

    def items(self, record: Record, path: Path, *, outermost: bool = False) -> Iterator[Item]:
        """Yield the items of a part of the file."""
        if isinstance(record.value, list):
            for part in record.value:
                yield from self.items(part, path)
        elif record.fields and not _is_item(record):
            for key, below in record.fields.items():
                if not (outermost and key in _DESCRIBING):
                    yield from self.items(below, (*path, key))
        elif (item := self._item(record, path)) is not None:
            yield item

    def _item(self, record: Record, path: Path) -> Item | None:
        fields = record.fields
        written = next((fields[key] for key in TEXT_KEYS if key in fields), record)
        text, weight = weighted_text(written.text)
        if not written.text and "id" not in fields:
            return None
        place = self._counts[path] = self._counts.get(path, -1) + 1
        generated = f"{'.'.join(path) or self._name}_{place}"
        if "weight" in fields:
            number = self._source.number(fields["weight"], "weight", 1.0)
            if number < 0:
                self._source.remark(f"the weight {number} is below 0; it counts as 0.", record)
            weight *= max(number, 0.0)
        own_id = fields["id"].text if "id" in fields else ""
        return Item(
            category=self._name,
            path=path,
            id=own_id or generated,
            text=text,
            has_own_id=bool(own_id),
            weight=weight,
            payload=fields["payload"].text if "payload" in fields else "",
            tags=self._tags(fields, "tags") | self._common,
            blacklist=self._tags(fields, "blacklist"),
            whitelist=self._tags(fields, "whitelist"),
            requires=self._tags(fields, "requires_tags"),
            file=self._source.file,
            line=record.line,
        )

    def _tags(self, fields: dict[str, Record], key: str) -> frozenset[str]:
        return tags_of(fields[key].words) if key in fields else frozenset()


def _is_item(record: Record) -> bool:
    fields = record.fields
    return any(isinstance(fields[key].value, str) for key in (*TEXT_KEYS, "id") if key in fields)


def _split(path: str) -> Path:
    return tuple(normal(part) for part in path.split(".") if part)

"""Graphs around one node of a pack: whatever it needs comes from given things or from further nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .slots import (
    ANYTHING,
    CLIP,
    GIVEN,
    REMOTE,
    SDXL_CLIP,
    TEXT,
    NoValueError,
    Slot,
    slots_of,
    value_of,
)

# Our two nodes; see graph_nodes.py.
SOURCE, SINK = "LunaPackSource", "LunaPackSink"
# "@VAE" as a value of a known case: the VAE of the run.
GIVEN_MARK = "@"
DEPTH_MAX = 3
Graph = dict[str, dict[str, Any]]


def sources_of(graph: Graph) -> list[str]:
    """Return the names of what a graph is given."""
    return [node["inputs"]["name"] for node in graph.values() if node["class_type"] == SOURCE]


@dataclass(frozen=True)
class NodeKind:
    """What a node class takes and gives."""

    name: str
    slots: tuple[Slot, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, name: str, declared: Mapping[str, Any], outputs: Sequence[Any]) -> NodeKind:
        """Read it from INPUT_TYPES() and RETURN_TYPES."""
        kinds = (kind if isinstance(kind, str) else "COMBO" for kind in outputs)
        return cls(name, tuple(slots_of(declared)), tuple(kinds))

    def takes(self, kinds: set[str]) -> bool:
        """Tell whether it has an input of one of these types."""
        return any(kinds.intersection(slot.kinds) for slot in self.slots)


@dataclass(frozen=True)
class Variant:
    """One way to fill in what was left open.

    Attributes:
        is_full: Also connect optional inputs that something is there for.
        rank: How many possible givers of a type to pass over.
        is_sdxl: Give SDXL's encoders where any CLIP will do.
    """

    is_full: bool = True
    rank: int = 0
    is_sdxl: bool = False


VARIANTS = (
    Variant(),
    Variant(is_full=False),
    Variant(rank=1),
    Variant(is_full=False, rank=1),
    Variant(is_sdxl=True),
)


@dataclass
class Catalogue:
    """The node classes of a pack, and those of ComfyUI around it.

    Attributes:
        own: The pack's, by name.
        stock: ComfyUI's.
        given: Types that are there without a node.
        defaults: Name of an input → what it is set to in place of its own default.
        avoided: Nodes that only give something where no other does.
        carrying: Types that the pack has made up and that may hold a model.
    """

    own: dict[str, NodeKind]
    stock: dict[str, NodeKind]
    given: tuple[str, ...] = GIVEN
    defaults: Mapping[str, Any] = field(default_factory=dict)
    avoided: Collection[str] = ()
    carrying: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.carrying = self._carrying()

    def concerned(self) -> list[str]:
        """Return the pack's nodes that a model can come to."""
        return [name for name in self.own if self._is_concerned(name)]

    def _is_concerned(self, name: str) -> bool:
        if not self.own[name].takes({*REMOTE, *self.carrying}):
            return False
        try:
            graph, _ = self.graph(name, {}, VARIANTS[0])
        except NoValueError:  # is to be said
            return True
        return bool(set(REMOTE).intersection(sources_of(graph)))

    def graph(self, name: str, values: Mapping[str, Any], variant: Variant) -> tuple[Graph, str]:
        """Return a graph around a node, and the id of what is to be run in it.

        Raises:
            NoValueError: Something that the node requires is nowhere to be had.
        """
        builder = _Builder(self, variant)
        kind = self.own.get(name) or self.stock[name]
        node = builder.add(kind, values, ())
        outputs = kind.outputs
        if not outputs:
            return builder.graph, node
        taken = {f"output_{number}": [node, number] for number in range(len(outputs))}
        return builder.graph, builder.put(SINK, taken)

    def _carrying(self) -> set[str]:
        known = {kind for node in self.stock.values() for kind in node.outputs}
        known |= {*self.given, ANYTHING}
        found: set[str] = set()
        while True:
            more = {
                kind
                for node in self.own.values()
                if node.takes({*REMOTE, *found})
                for kind in node.outputs
                if kind not in known
            }
            if more <= found:
                return found
            found |= more

    def givers(self, kinds: Sequence[str]) -> Iterator[tuple[NodeKind, int]]:
        """Return nodes that give one of these types and which output it is, likely ones first."""
        for nodes in (self.own, self.stock):
            found = [
                (node, number)
                for node in nodes.values()
                for number, kind in enumerate(node.outputs)
                if kind in kinds and kind != ANYTHING
            ]
            yield from sorted(found, key=lambda pair: self._effort(pair[0]))

    def _effort(self, node: NodeKind) -> tuple[bool, int, bool]:
        """How many of its inputs need further nodes; of equals, one that takes a model comes first."""
        links = [slot for slot in node.slots if slot.is_required and not slot.is_widget]
        far = sum(not set(self.given).intersection(slot.kinds) for slot in links)
        return node.name in self.avoided, far, not node.takes(set(REMOTE))


class _Builder:
    def __init__(self, catalogue: Catalogue, variant: Variant) -> None:
        self.graph: Graph = {}
        self._catalogue = catalogue
        self._variant = variant
        self._sources: dict[str, str] = {}

    def put(self, class_type: str, inputs: dict[str, Any]) -> str:
        number = str(len(self.graph) + 1)
        self.graph[number] = {"class_type": class_type, "inputs": inputs}
        return number

    def add(self, kind: NodeKind, values: Mapping[str, Any], above: tuple[str, ...]) -> str:
        inputs: dict[str, Any] = {}
        for slot in kind.slots:
            if slot.name in values:
                continue
            if slot.is_widget:
                inputs[slot.name] = self._catalogue.defaults.get(slot.name, value_of(slot))
            elif slot.is_required or self._is_wanted(slot, above):
                try:
                    inputs[slot.name] = self._link(slot, (*above, kind.name))
                except NoValueError:
                    if slot.is_required:
                        raise
        for name, value in values.items():
            is_given = isinstance(value, str) and value.startswith(GIVEN_MARK)
            inputs[name] = self._given(value[1:]) if is_given else value
        return self.put(kind.name, inputs)

    def _is_wanted(self, slot: Slot, above: tuple[str, ...]) -> bool:
        kinds = set(slot.kinds)
        if kinds.intersection(REMOTE):
            return True
        more = {*self._catalogue.given, *(() if above else self._catalogue.carrying)}
        return self._variant.is_full and bool(kinds.intersection(more))

    def _link(self, slot: Slot, above: tuple[str, ...]) -> Any:
        for kind in slot.kinds:
            if kind in self._catalogue.given:
                return self._given(kind)
        if ANYTHING in slot.kinds:
            return TEXT
        if slot.kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):  # forced to be a link
            return value_of(slot)
        if len(above) <= DEPTH_MAX:
            found = self._from_a_giver(slot, above)
            if found is not None:
                return found
        raise NoValueError(f"nothing gives '{slot.name}' ({slot.kind[:60]})")

    def _from_a_giver(self, slot: Slot, above: tuple[str, ...]) -> list[Any] | None:
        last: list[Any] | None = None
        passed = 0
        for node, number in self._catalogue.givers(slot.kinds):
            if node.name in above:
                continue
            before = (dict(self.graph), dict(self._sources))
            try:
                last = [self.add(node, {}, above), number]
            except NoValueError:
                self.graph, self._sources = before
                continue
            if passed == self._variant.rank:
                break
            passed += 1
        return last

    def _given(self, kind: str) -> list[Any]:
        if kind == CLIP and self._variant.is_sdxl:
            kind = SDXL_CLIP
        if kind not in self._sources:
            self._sources[kind] = self.put(SOURCE, {"name": kind})
        return [self._sources[kind], 0]

"""A graph of ComfyUI in API form, as far as a picture's file can be trusted to hold one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..prompt_graph import OUTPUTS, is_link

_PICTURES = ("images", "image", "pixels")
_LATENTS = ("latent_image", "latent", "samples", *_PICTURES)
_SAMPLING = ("seed", "noise_seed", "steps", "sampler_name", "sampler", "latent_image", "sigmas")


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its id, its class, and its inputs' values or links `[node id, output index]`."""

    id: str
    kind: str
    inputs: Mapping[str, Any]


class ComfyGraph:
    """Nodes and the ways back from them.

    A link to an output whose value was noted when the graph ran is that value.

    Args:
        prompt: What was stored; anything in it that is no node is left out.
    """

    def __init__(self, prompt: object) -> None:
        items = prompt.items() if isinstance(prompt, Mapping) else ()
        nodes = {
            str(name): node
            for name, node in items
            if isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping)
        }
        noted = {name: _noted(node) for name, node in nodes.items()}
        self.nodes = {
            name: Node(name, str(node.get("class_type", "")), _known(node["inputs"], noted))
            for name, node in nodes.items()
        }

    def behind(self, value: object) -> Node | None:
        """Return the node that a link leads to; None for other values, and links to nowhere."""
        if isinstance(value, list) and is_link(value):
            return self.nodes.get(str(value[0]))
        return None

    def links(self, node: Node) -> Iterator[tuple[str, Node]]:
        """Yield the inputs that are linked, with the nodes behind them."""
        for name, value in node.inputs.items():
            found = self.behind(value)
            if found is not None:
                yield name, found

    def sampler(self) -> Node | None:
        """Return the node that drew the picture: of several in a row, the first that was at work.

        The search begins at the nodes that save or show pictures.
        """
        before_ends = (self._nearest_sampler([end]) for end in self._ends())
        found = next(filter(None, before_ends), None)
        seen: set[str] = set()
        while found is not None and found.id not in seen:
            seen.add(found.id)
            before = [node for name, node in self.links(found) if name in _LATENTS]
            earlier = self._nearest_sampler(before)
            if earlier is None:
                break
            found = earlier
        return found

    def _ends(self) -> list[Node]:
        """Return the nodes that nothing follows, those that take pictures and save them first."""
        used = {node.id for each in self.nodes.values() for _, node in self.links(each)}
        ends = [node for node in self.nodes.values() if node.id not in used]

        def rank(node: Node) -> tuple[bool, bool]:
            takes = any(name in _PICTURES for name, _ in self.links(node))
            return not (takes and "save" in node.kind.lower()), not takes

        return sorted(ends, key=rank)

    def _nearest_sampler(self, start: list[Node]) -> Node | None:
        waiting, seen = deque(start), set()
        while waiting:
            node = waiting.popleft()
            if node.id in seen:
                continue
            seen.add(node.id)
            if self._is_sampler(node):
                return node
            waiting.extend(before for _, before in self.links(node))
        return None

    def _is_sampler(self, node: Node) -> bool:
        """Known by what it takes, not by its name: every pack has samplers of its own."""
        linked = {name for name, _ in self.links(node)}
        if "guider" in linked:
            return True
        if {"positive", "negative"} <= linked or {"model", "positive"} <= linked:
            return any(name in node.inputs for name in _SAMPLING)
        return "sampler" in node.kind.lower() and any("pipe" in name for name in linked)


def _noted(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values that a node's outputs had, by their numbers."""
    meta = node.get("_meta")
    outputs = meta.get(OUTPUTS) if isinstance(meta, Mapping) else None
    return outputs if isinstance(outputs, Mapping) else {}


def _known(inputs: Mapping[str, Any], noted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a node's inputs with values in place of the links of which they are known."""
    known = dict(inputs)
    for name, value in inputs.items():
        if is_link(value):
            was = noted.get(str(value[0]), {}).get(str(value[1]))
            if isinstance(was, (str, int)) and not isinstance(was, bool):
                known[name] = was
    return known

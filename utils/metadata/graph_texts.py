"""The prompt that reached a sampler, found by walking back along the links.

What a node computes when it runs, such as a wildcard's outcome, is in the graph only where the node has noted
it, as ours do; of others the text that they were given is taken, or what they keep of the outcome
(`populated_text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .comfy_graph import ComfyGraph, Node

MAX_STEPS = 200
# What a text input is called, the best first.
_TEXTS = (
    "populated_text",
    "text",
    "text_g",
    "text_l",
    "clip_l",
    "clip_g",
    "t5xxl",
    "prompt",
    "string",
    "value",
    "wildcard_text",
)
_PIECE = re.compile(r"(?:text|string|prompt)_?(?:[a-h]|\d{1,2})")
_SPACERS = ("delimiter", "separator")
# Inputs that no prompt comes through.
_NO_TEXT = re.compile(
    r"(?:clip|vae|model|control_?net|image|images|pixels|mask|latent.*|samples|noise|sampler|sigmas|"
    r"seed|noise_seed|lora_stack|clip_vision.*|width|height|.*strength.*)(?:_name)?"
)


def text_at(graph: ComfyGraph, sampler: Node, role: str) -> str:
    """Return the text for a role, "positive" or "negative"; "" where the links lead to none."""
    return ", ".join(_different(_Walk(graph, role).texts_of(sampler, 0)))


class _Walk:
    def __init__(self, graph: ComfyGraph, role: str) -> None:
        self._graph = graph
        self._role = role
        self._seen: set[str] = set()

    def texts_of(self, node: Node, steps: int) -> list[str]:
        if node.id in self._seen or steps > MAX_STEPS:
            return []
        self._seen.add(node.id)
        kind = node.kind.lower()
        if "zeroout" in kind or (self._role == "negative" and kind == "basicguider"):
            return []
        for name in (self._role, f"{self._role}_prompt", f"{self._role}_text"):
            if name in node.inputs:
                return self._value(node.inputs[name], steps)
        chosen = self._chosen(node)
        if chosen is not None:
            return self._value(chosen, steps)
        return self._pieces(node, steps) or self._own(node, steps) or self._behind(node, steps)

    def _value(self, value: object, steps: int) -> list[str]:
        """Return a text, or the texts behind a link."""
        if isinstance(value, str):
            return [value.strip()] if value.strip() else []
        before = self._graph.behind(value)
        return self.texts_of(before, steps + 1) if before is not None else []

    def _chosen(self, node: Node) -> object:
        """Return the input that a switch lets through; None for nodes that are no switches."""
        inputs = node.inputs
        if "on_true" in inputs and "on_false" in inputs:
            for name in ("switch", "condition", "boolean"):
                if isinstance(inputs.get(name), bool):
                    return inputs["on_true" if inputs[name] else "on_false"]
        select = inputs.get("select")
        if isinstance(select, int) and not isinstance(select, bool):
            return inputs.get(f"input{select}")
        return None

    def _pieces(self, node: Node, steps: int) -> list[str]:
        """Return what a node joins, as one text."""
        names = [name for name in node.inputs if _PIECE.fullmatch(name)]
        if len(names) < 2:
            return []
        spacers = [node.inputs[name] for name in _SPACERS if name in node.inputs]
        spacer = spacers[0] if spacers and isinstance(spacers[0], str) else ", "
        texts = [text for name in names for text in self._value(node.inputs[name], steps)]
        return [spacer.join(texts)] if texts else []

    def _own(self, node: Node, steps: int) -> list[str]:
        """Return what a text encoder or a node with a text is given."""
        found: list[str] = []
        for name in _TEXTS:
            if name in node.inputs:
                found += self._value(node.inputs[name], steps)
                if found and name == "populated_text":
                    break
        return _different(found)

    def _behind(self, node: Node, steps: int) -> list[str]:
        """Return what comes through a node that has no text itself."""
        return [
            text
            for name, before in self._graph.links(node)
            if not _NO_TEXT.fullmatch(name)
            for text in self.texts_of(before, steps + 1)
        ]


def _different(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))

"""Patch sets of clients, kept by content: texts of recipes and the tensors that they are made of.

A recipe names tensors by their content ("b") or as weights of models that the worker holds ("w"). Both maps
are bounded by bytes; what is missing is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch

from ...utils.byte_lru import ByteLru
from ..errors import BadRequestError
from ..protocol.work import NOTHING, Needed, Recipe
from ..transport.digests import tensor_digest, tree_digest
from ..transport.trees import load_with

# Texts of recipes; thousands of LoRAs fit.
RECIPE_TEXT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Text:
    """A recipe as it was sent, and which tensors it is made of."""

    raw: bytes
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ingredients:
    """A recipe with everything that it is made of."""

    raw: bytes
    blobs: Mapping[str, torch.Tensor]


class RecipeBook:
    """The recipes and tensors that clients have sent."""

    def __init__(self, max_bytes: int) -> None:
        self.blobs: ByteLru[str, torch.Tensor] = ByteLru(max_bytes)
        self.texts: ByteLru[str, _Text] = ByteLru(RECIPE_TEXT_BYTES)

    def gather(self, recipe: Recipe, tensors: Sequence[torch.Tensor]) -> Ingredients | Needed:
        """Return a recipe's ingredients, or what has to be sent first. What came is kept.

        Raises:
            BadRequestError: What was sent is not what its digest says, or no recipe.
        """
        sent = {digest: _sent(digest, index, tensors) for digest, index in recipe.blobs.items()}
        text = self._text(recipe)
        found = dict(sent)
        for digest in text.blobs if text is not None else ():
            kept = self.blobs.get(digest)
            if kept is not None:
                found.setdefault(digest, kept)
        for digest, tensor in sent.items():
            self.blobs.put(digest, tensor, tensor.nbytes)
        if text is None:
            return Needed(recipe=True)
        missing = tuple(digest for digest in text.blobs if digest not in found)
        return Needed(blobs=missing) if missing else Ingredients(text.raw, found)

    def _text(self, recipe: Recipe) -> _Text | None:
        if bytes(recipe.stages) == bytes(NOTHING):
            return self.texts.get(recipe.digest)
        if tree_digest(recipe.stages) != recipe.digest:
            raise BadRequestError("A patch set is not the one that its digest names.")
        raw = bytes(recipe.stages)
        named: dict[str, None] = {}

        def note(kind: str, content: Any) -> Any:
            if kind == "b" and isinstance(content, str):
                named[content] = None
            elif kind != "w":
                raise BadRequestError("A patch set refers to something that cannot be part of it.")
            return None

        load_with(msgspec.Raw(raw), note)
        text = _Text(raw, tuple(named))
        self.texts.put(recipe.digest, text, len(raw))
        return text


def _sent(digest: str, index: int, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if index >= len(tensors):
        raise BadRequestError("A patch set refers to a tensor that did not come with it.")
    if tensor_digest(tensors[index]) != digest:
        raise BadRequestError("A tensor of a patch set is not the one that its digest names.")
    return tensors[index]

"""Patch sets: kept by content, and turned into the patches of a ComfyUI patcher.

A recipe names tensors by their content ("b") or as weights of models that the worker holds ("w"). Both the
recipes and their tensors are kept in maps bounded by bytes; what is missing is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.weight_adapter
import msgspec
import torch

from ...errors import BadRequestError, NotFoundError
from ...protocol.work import NOTHING, Needed, Recipe
from ...transport.digests import tensor_digest, tree_digest
from ...transport.trees import load_with
from ..byte_lru import ByteLru
from .host_patcher import pristine_weight
from .loading import ComfyModel

# Texts of recipes; thousands of LoRAs fit.
RECIPE_TEXT_BYTES = 64 * 2**20
STAGES = ("patches", "hooks")
Patches = dict[str, list[tuple[Any, ...]]]
_ADAPTERS = {kind.name: kind for kind in comfy.weight_adapter.adapters}


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


@dataclass(slots=True)
class Cook:
    """Makes patches of ingredients.

    Attributes:
        ingredients: The recipe.
        models: Model key → the models whose weights it may refer to.
    """

    ingredients: Ingredients
    models: Mapping[str, ComfyModel]
    _converters: dict[int, Callable[..., Any]] = field(default_factory=dict)

    def stages(self) -> dict[str, Patches]:
        """Return stage → patches.

        Raises:
            BadRequestError: The recipe makes no sense.
            NotFoundError: It refers to a weight that is not there.
        """
        value = load_with(msgspec.Raw(self.ingredients.raw), self._find)
        try:
            stages = {
                stage: {
                    key: [self._patch(patch) for patch in patches] for key, patches in of.items()
                }
                for stage, of in value
            }
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise BadRequestError(f"A patch set makes no sense: {error}.") from error
        unknown = [stage for stage in stages if stage not in STAGES]
        if unknown:
            raise BadRequestError(f"A patch set has no stage '{str(unknown[0])[:40]}'.")
        return stages

    def _find(self, kind: str, content: Any) -> Any:
        if kind == "b":
            return self.ingredients.blobs[content]
        key, name = content
        if key not in self.models:
            raise NotFoundError(
                "A patch set refers to a model that the workflow does not hold.",
                "Run the workflow again.",
            )
        patcher = self.models[key].base
        try:
            weight = pristine_weight(patcher, name)
            convert = comfy.model_patcher.get_key_weight(patcher.model, name)[2]
        except AttributeError as error:
            raise NotFoundError(
                f"A patch set refers to a weight '{name}' that is not there."
            ) from error
        if convert is not None:
            self._converters[id(weight)] = convert
        return weight

    def _patch(self, patch: tuple[Any, ...]) -> tuple[Any, ...]:
        strength, value, strength_model, offset, function = patch
        if function is not None:
            raise ValueError("a function cannot be part of it")
        return (strength, self._value(value), strength_model, offset, None)

    def _value(self, value: tuple[Any, ...]) -> Any:
        kind = value[0]
        if kind == "adapter":
            _, name, weights = value
            return _ADAPTERS[name](set(), weights)
        if kind == "merge":
            _, base, patches = value
            convert = self._converters.get(id(base), _as_it_is)
            return [(base, convert), *(self._patch(patch) for patch in patches)]
        if kind == "plain":
            return value[1]
        raise ValueError(f"there is no kind '{str(kind)[:40]}'")


def _as_it_is(weight: torch.Tensor, **_: Any) -> torch.Tensor:
    return weight

"""From a recipe with all its ingredients to the patches of a ComfyUI patcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.weight_adapter
import msgspec
import torch

from ...errors import BadRequestError, NotFoundError
from ...lora_adapters import EXACT_LORA, FAST_LORA, ExactLora, FastLora
from ...transport.trees import load_with
from ..recipe_book import Ingredients
from .host_patcher import pristine_weight
from .loading import ComfyModel

STAGES = ("patches", "hooks")
Patches = dict[str, list[tuple[Any, ...]]]
# Name in a recipe → kind of adapter. LoRAs get arithmetic of our own, which gives the same weights.
_ADAPTERS = {
    **{kind.name: kind for kind in comfy.weight_adapter.adapters},
    EXACT_LORA: ExactLora,
    FAST_LORA: FastLora,
}


@dataclass(slots=True)
class Cook:
    """Makes patches of ingredients.

    Attributes:
        ingredients: The recipe.
        models: Model key → the models whose weights it may refer to.
        borrowed: Keys of those whose weights it does refer to, once the stages are made.
    """

    ingredients: Ingredients
    models: Mapping[str, ComfyModel]
    borrowed: set[str] = field(default_factory=set)
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
        self.borrowed.add(key)
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

"""A patcher's patches as a recipe that the daemon can follow: what is done to the weights, by content.

Two stages: what LoRA loaders and merges put into a patcher, then what the hooks of the moment add. ComfyUI
rounds to the weights' type between them, so they must not be joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.weight_adapter
import msgspec
import torch

from ..gguf_models.weight import in_values
from ..lora_adapters import EXACT_LORA, FAST_LORA, ExactLora, FastLora
from ..protocol.work import Recipe
from ..transport.digests import tree_digest
from ..transport.trees import dump_with
from .digests import Digests
from .errors import EditNotSharedError
from .remote_weights import WeightOwner, reference_of

Patches = Mapping[str, Sequence[tuple[Any, ...]]]
# What a weight of another model is called in a recipe: the model's key and the weight's name.
KeyOf = Callable[[WeightOwner], str]
# Kind of adapter → its name in a recipe.
_ADAPTERS = {
    **{adapter: adapter.name for adapter in comfy.weight_adapter.adapters},
    ExactLora: EXACT_LORA,
    FastLora: FAST_LORA,
}


@dataclass(frozen=True)
class PatchSet:
    """What is done to a model's weights.

    Attributes:
        digest: SHA-256 of the stages; names the set.
        stages: The recipe (docs/protocol.md).
        blobs: Digest of the content → tensor, for every tensor that the recipe is made of.
        owners: Models whose weights it refers to.
    """

    digest: str
    stages: msgspec.Raw
    blobs: Mapping[str, torch.Tensor]
    owners: tuple[WeightOwner, ...] = ()

    def named(self) -> Recipe:
        """The recipe by its name only, for a daemon that has it."""
        return Recipe(digest=self.digest)

    def told(self, blobs: Mapping[str, int]) -> Recipe:
        """The recipe written out, with blobs that come along as segments of these numbers."""
        return Recipe(digest=self.digest, stages=self.stages, blobs=dict(blobs))


@dataclass
class _Writer:
    digests: Digests
    key_of: KeyOf
    blobs: dict[str, torch.Tensor] = field(default_factory=dict)
    owners: list[WeightOwner] = field(default_factory=list)

    def put(self, tensor: torch.Tensor) -> Any:
        reference = reference_of(tensor)
        if reference is not None:
            owner, name = reference
            real = owner.real_weight(name)
            if real is None:
                if owner not in self.owners:
                    self.owners.append(owner)
                return {"w": [self.key_of(owner), name]}
            tensor = real.detach()
        if tensor.is_meta:
            raise EditNotSharedError("A node made a patch of a weight that is nowhere in memory.")
        tensor = in_values(tensor)
        digest = self.digests.of(tensor)
        self.blobs[digest] = tensor
        return {"b": digest}


def write_patch_set(
    patches: Patches, hook_patches: Patches | None, digests: Digests, key_of: KeyOf
) -> PatchSet | None:
    """Return the recipe for these patches; None when there is nothing to do.

    Raises:
        EditNotSharedError: A patch is code of another pack, which the daemon does not have.
    """
    stages = [("patches", _table(patches))]
    if hook_patches:
        stages.append(("hooks", _table(hook_patches)))
    if not any(table for _, table in stages):
        return None
    writer = _Writer(digests, key_of)
    raw = dump_with(stages, writer.put)
    return PatchSet(tree_digest(raw), raw, writer.blobs, tuple(writer.owners))


def _table(patches: Patches) -> dict[str, list[Any]]:
    return {key: [_patch(key, patch) for patch in patches[key]] for key in sorted(patches)}


def _patch(key: str, patch: Sequence[Any]) -> tuple[Any, ...]:
    strength, value, strength_model, offset, function = (*patch, None, None)[:5]
    if function is not None:
        raise EditNotSharedError(
            f"A node patched '{key}' through a function ({_name(function)}), which cannot be sent."
        )
    return strength, _value(key, value), strength_model, offset, None


def _value(key: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, comfy.weight_adapter.WeightAdapterBase):
        name = _ADAPTERS.get(type(value))
        if name is None:
            raise EditNotSharedError(
                f"A node patched '{key}' with a kind of LoRA that ComfyUI itself does not have "
                f"({_name(type(value))})."
            )
        weights = value.weights
        return "adapter", name, tuple(weights) if isinstance(weights, list) else weights
    if isinstance(value, list):  # a merge: [(weight, conversion), patch, …]
        return "merge", value[0][0], [_patch(key, patch) for patch in value[1:]]
    if isinstance(value, (tuple, torch.Tensor)):
        return "plain", value
    raise EditNotSharedError(
        f"A node patched '{key}' with an object that cannot be sent ({_name(type(value))})."
    )


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"

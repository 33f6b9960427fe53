"""The engine in this process, and what a client would send it: calls, recipes, parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from luna_collection.luna_daemon.engines.engine import Engine, Resident, RunControl, SilentControl
from luna_collection.luna_daemon.protocol.work import (
    NOTHING,
    AnyResult,
    CallModel,
    FetchWeights,
    Needed,
    Recipe,
    Returned,
)
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec
from luna_collection.luna_daemon.transport.digests import tensor_digest, tree_digest
from luna_collection.luna_daemon.transport.trees import dump_tree, dump_with, load_tree


def spec_of(
    kind: Any, *files: Path, key: str = "", precision: str = "auto", **options: str
) -> ModelSpec:
    """Return what a daemon would tell its worker to load."""
    return ModelSpec(
        key=key or f"{kind}/{files[0].name}/{precision}/{sorted(options.items())}",
        role=kind,
        path=str(files[0]),
        precision=precision,
        nbytes=1,
        kind=kind,
        more_paths=tuple(str(file) for file in files[1:]),
        options=options,
    )


class SentRecipe:
    """A patch set as a client sends it."""

    def __init__(self, patches: Any = None, hooks: Any = None) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        stages = [
            (stage, {key: [_plain(patch) for patch in of[key]] for key in sorted(of)})
            for stage, of in (("patches", patches), ("hooks", hooks))
            if of
        ]
        self.stages = dump_with(stages, self._put)
        self.digest = tree_digest(self.stages)

    def _put(self, tensor: torch.Tensor) -> Any:
        if isinstance(tensor, WeightOf):
            return {"w": [tensor.model_key, tensor.weight]}
        digest = tensor_digest(tensor)
        self.tensors[digest] = tensor.detach()
        return {"b": digest}


class WeightOf(torch.Tensor):
    """Stands for a weight of a model that the daemon holds."""

    model_key: str
    weight: str


def weight_of(key: str, name: str) -> WeightOf:
    """Return what stands for a weight in a recipe."""
    tensor = torch.empty(0).as_subclass(WeightOf)
    tensor.model_key, tensor.weight = key, name
    return tensor


def _plain(patch: tuple[Any, ...]) -> tuple[Any, ...]:
    import comfy.weight_adapter
    from luna_collection.luna_daemon.lora_adapters import FAST_LORA, FastLora

    strength, value, strength_model, offset, function = patch
    if isinstance(value, comfy.weight_adapter.WeightAdapterBase):
        name = FAST_LORA if isinstance(value, FastLora) else value.name
        sent: tuple[Any, ...] = ("adapter", name, value.weights)
    elif isinstance(value, list):
        sent = ("merge", value[0][0], [_plain(other) for other in value[1:]])
    else:
        sent = ("plain", value)
    return (strength, sent, strength_model, offset, function)


class EngineClient:
    """Calls an engine as a worker does, and asks again with what it needs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.control: RunControl = SilentControl()
        self.cache_hit = False
        self.needed: list[Needed] = []

    def call(
        self,
        model: Resident,
        method: str,
        *positional: Any,
        module: str = "",
        state: Mapping[str, Any] | None = None,
        recipe: SentRecipe | None = None,
        also: Iterable[Resident] = (),
        **named: Any,
    ) -> Any:
        """Call a method, and return what it returned."""
        arguments, tensors = dump_tree((positional, named))
        work = CallModel(
            kind=model.spec.kind or "clip",
            role="it",
            method=method,
            module=module,
            arguments=arguments,
            state=NOTHING if state is None else dump_tree(state)[0],
        )
        result, results = self._run(work, model, tensors, recipe, also)
        assert isinstance(result, Returned)
        return load_tree(result.value, results)

    def weights(
        self,
        model: Resident,
        names: Iterable[str],
        recipe: SentRecipe | None = None,
        also: Iterable[Resident] = (),
    ) -> list[torch.Tensor]:
        """Return weights by name."""
        work = FetchWeights(kind=model.spec.kind or "clip", role="it", names=tuple(names))
        return list(self._run(work, model, [], recipe, also)[1])

    def _run(
        self,
        work: CallModel | FetchWeights,
        model: Resident,
        tensors: list[torch.Tensor],
        recipe: SentRecipe | None,
        also: Iterable[Resident],
    ) -> tuple[AnyResult, tuple[torch.Tensor, ...]]:
        import msgspec

        models = {"it": model, **{f"also {n}": other for n, other in enumerate(also)}}
        self.needed = []
        sent = None if recipe is None else Recipe(digest=recipe.digest)
        blobs: list[torch.Tensor] = []
        while True:
            asked = msgspec.structs.replace(work, recipe=sent, also=tuple(models)[1:])
            outcome = self.engine.run(asked, "", models, [*tensors, *blobs], self.control)
            self.cache_hit = outcome.cache_hit
            if not isinstance(outcome.result, Needed):
                return outcome.result, outcome.tensors
            self.needed.append(outcome.result)
            assert recipe is not None
            assert len(self.needed) < 4, "the engine asks for ever"
            blobs = [recipe.tensors[digest] for digest in outcome.result.blobs]
            sent = Recipe(
                digest=recipe.digest,
                stages=recipe.stages if outcome.result.recipe else NOTHING,
                blobs={
                    digest: len(tensors) + number
                    for number, digest in enumerate(outcome.result.blobs)
                },
            )

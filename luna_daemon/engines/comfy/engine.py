"""The engine itself. Import it after `boot` of boot.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from comfy.model_management import load_models_gpu

from ....utils.log import get_logger
from ...errors import BadRequestError, IncompatibleError
from ...numerics import VERSIONS, differences
from ...protocol.work import (
    AnyWork,
    CallModel,
    DecodeLatent,
    EncodeImage,
    EncodeText,
    FetchWeights,
    Needed,
    Recipe,
    Returned,
    Weights,
)
from ...protocol.worker_messages import ModelSpec
from ...torch_settings import Settings, has_autocast, without_autocast
from ..conditioning_cache import ConditioningCache
from ..engine import CacheCounts, Engine, EngineSettings, Outcome, Resident, RunControl
from ..oom import free_cached_memory, is_out_of_memory, out_of_memory
from ..recipe_book import RecipeBook
from . import fetching, plain_work
from .boot import comfyui_version
from .calls import call_method, read_arguments, read_state
from .conditioning import CachedResults, dump_result
from .epochs import PLAIN, make_patcher, patcher_of, return_to_plain
from .loading import LOAD_ERRORS, ComfyModel, load_model
from .patches import Cook
from .residents import Residents
from .surroundings import Surroundings
from .watching import watched

log = get_logger("comfyui")
T = TypeVar("T")


class ComfyEngine(Engine):
    """Runs CLIPs, VAEs and CLIP vision models of ComfyUI.

    Args:
        settings: What every engine is told.
        folder: ComfyUI's folder.
        numerics: Settings of the client's ComfyUI that this process has taken over.
    """

    name = "comfy"

    def __init__(self, settings: EngineSettings, folder: Path, numerics: Mapping[str, str]) -> None:
        self._device = settings.device
        self._comfyui = comfyui_version(folder)
        self._numerics = dict(numerics)
        self._residents = Residents()
        self._models: dict[str, ComfyModel] = {}
        self._cached = CachedResults(ConditioningCache(settings.conditioning_cache_bytes))
        self._surroundings = Surroundings(torch.device(settings.device))
        self._book = RecipeBook(settings.patch_cache_bytes)
        self._runners: dict[type[Any], Callable[..., Outcome]] = {
            CallModel: self._call_model,
            FetchWeights: self._fetch_weights,
            EncodeText: partial(plain_work.encode_text, self._cached.cache),
            DecodeLatent: plain_work.decode_latent,
            EncodeImage: plain_work.encode_image,
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of ComfyUI and torch."""
        return {"comfyui": self._comfyui, "torch": str(torch.__version__)}

    def load(self, spec: ModelSpec, image: int | None = None) -> Resident:
        """Load an object of ComfyUI; its weights are shared through the mapped file, not an image."""
        self._check_versions()
        model = load_model(spec)
        self._residents.keep(model.base)
        self._models[model.key] = model
        return Resident(spec, model, int(model.base.model_size()))

    def move(self, resident: Resident, place: str) -> None:
        """Put a model to sleep in RAM, without a patch set, or wake it."""
        model: ComfyModel = resident.model
        if place == "ram":
            model.applied = (PLAIN, None)
            self._residents.put_to_sleep(model.base, self._device)
        else:
            self._explained("load_models_gpu", lambda: self._residents.wake(model.base))

    def rest(self) -> None:
        """Give back memory that is only kept for the next work."""
        free_cached_memory(self._device)

    def unload(self, resident: Resident) -> None:
        """Drop the weights, even while somebody still holds the resident."""
        model: ComfyModel = resident.model
        self._models.pop(model.key, None)
        with torch.inference_mode():
            for other in self._models.values():
                if model.key in other.borrowed:  # its patches would keep our weights in memory
                    return_to_plain(other)
        base = model.base
        model.object, model.base, model.applied = None, None, (PLAIN, None)
        self._cached.cache.forget(model.key)
        self._residents.release(base, self._device)
        del base
        free_cached_memory(self._device)

    def cache_counts(self) -> CacheCounts:
        """Return the state of the caches."""
        return dataclasses.replace(
            self._cached.cache.counts(),
            patch_sets=len(self._book.texts),
            patch_bytes=self._book.blobs.nbytes,
        )

    def close(self) -> None:
        """Give ComfyUI back to its process as it was: for tests and in-process use."""
        self._residents.close()

    def run(
        self,
        work: AnyWork,
        model_type: str,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        control: RunControl,
    ) -> Outcome:
        """Do the work; its tensors come on the CPU."""
        runner = self._runners.get(type(work))
        if runner is None:
            raise BadRequestError(f"The comfy engine cannot do '{type(work).__name__}'.")
        for resident in models.values():
            resident.model.check_files()
        what = getattr(work, "method", type(work).__name__)
        with torch.inference_mode(), watched(control):
            return self._explained(what, lambda: runner(work, models, tensors, control))

    def _explained(self, what: str, run: Callable[[], T]) -> T:
        """Run ComfyUI's code; what goes wrong in it is told to the caller as it would be there."""
        try:
            return run()
        except LOAD_ERRORS as error:
            if is_out_of_memory(error):
                memory_ended = out_of_memory(f"ComfyUI's '{what}'", self._device)
            else:
                log.warning("'%s' failed in ComfyUI", what, exc_info=True)
                text = " ".join(str(error).split())[:500]
                raise BadRequestError(
                    f"ComfyUI's '{what}' failed with {type(error).__name__}: {text}.",
                    "The daemon's log has the details: luna-daemon logs.",
                ) from error
        free_cached_memory(self._device)
        raise memory_ended

    def _check_versions(self) -> None:
        """Refuse to work for a client whose ComfyUI or torch is another one."""
        theirs = {name: self._numerics[name] for name in VERSIONS if name in self._numerics}
        ours = {name: version for name, version in self.versions().items() if name in theirs}
        differing = differences(theirs, ours)
        if differing:
            raise IncompatibleError(
                f"This ComfyUI has {' and '.join(differing)}, as the daemon's has, so its results could differ.",
                "Let comfyui_path and comfyui_python of the daemon name the same ComfyUI, and restart it.",
            )

    def _call_model(
        self,
        work: CallModel,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        control: RunControl,
    ) -> Outcome:
        model = _model_for(work, models)
        used = [model.key, *(resident.spec.key for resident in models.values())]
        blobs = set(work.recipe.blobs.values()) if work.recipe is not None else set()
        given = [tensor for index, tensor in enumerate(tensors) if index not in blobs]
        unusual = self._surroundings.unusual(work)
        key = self._cached.key(work, list(dict.fromkeys(used)), given, unusual)
        if key is not None:
            found = self._cached.get(key)
            if found is not None:
                return Outcome(Returned(value=found[0]), found[1], cache_hit=True)
        patcher = self._patcher(model, work.recipe, models, tensors, without_autocast(unusual))
        if isinstance(patcher, Needed):
            return Outcome(patcher, ())
        if work.recipe is not None and has_autocast(unusual):
            load_models_gpu([patcher])  # out of it, as they were loaded there
        arguments, state = read_arguments(work, tensors), read_state(work)
        done = self._surroundings.run(
            work, tensors, lambda: call_method(model, patcher, work, arguments, state)
        )
        if isinstance(done, Needed):
            return Outcome(done, ())
        result, drawn = done
        raw, results = dump_result(result)
        if key is not None and not drawn:
            self._cached.put(key, raw, results)
        numbers = dict(zip(drawn, range(len(results), len(results) + len(drawn)), strict=True))
        return Outcome(Returned(value=raw, random=numbers), (*results, *drawn.values()))

    def _fetch_weights(
        self,
        work: FetchWeights,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        control: RunControl,
    ) -> Outcome:
        patcher = self._patcher(_model_for(work, models), work.recipe, models, tensors, {})
        if isinstance(patcher, Needed):
            return Outcome(patcher, ())
        found = fetching.fetch(patcher, work.names)
        return Outcome(Weights(tensors=tuple(range(len(found)))), found)

    def _patcher(
        self,
        model: ComfyModel,
        recipe: Recipe | None,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        settings: Settings,
    ) -> Any:
        """Return the patcher for a recipe, or what the recipe lacks.

        Other settings of torch than the worker's own can make other weights of the same recipe.
        """
        digest = recipe.digest if recipe is not None else PLAIN
        if digest != PLAIN and settings:
            digest = f"{digest} {sorted(settings.items())}"
        patcher = patcher_of(model, digest)
        if patcher is None and recipe is not None:
            ingredients = self._book.gather(recipe, tensors)
            if isinstance(ingredients, Needed):
                return ingredients
            held = {resident.spec.key: resident.model for resident in models.values()}
            cook = Cook(ingredients, held)
            patcher = make_patcher(model, digest, cook.stages())
            model.borrowed = frozenset(cook.borrowed)
        if digest == PLAIN:
            model.borrowed = frozenset()
        model.applied = (digest, patcher)
        return patcher


def _model_for(work: CallModel | FetchWeights, models: Mapping[str, Resident]) -> ComfyModel:
    if work.role not in models:
        raise BadRequestError(f"The workflow has no model '{work.role}'.")
    model: ComfyModel = models[work.role].model
    if model.kind != work.kind:
        raise BadRequestError(f"'{work.role}' is a {model.kind}, not a {work.kind}.")
    return model

"""The first-block cache on ComfyUI's models, through ComfyUI's own hooks, on a clone.

U-Nets show what every input block gives (`input_block_patch`); a call is cut short by leaving it there.
Transformers let whole blocks be replaced (`patches_replace["dit"]`); in a call that is cut short, all blocks
but the first let their input pass, and the last one gives the result. Patches of other nodes stay in place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.ldm.wan.model import WanModel
from comfy.patcher_extension import WrappersMP

from ...utils.errors import InputError
from ...utils.log import get_logger
from ...utils.sampling.first_block_cache import CacheSettings, FirstBlockCache

log = get_logger("sampling")
KEY = "luna_first_block_cache"
_WRAPPERS = (WrappersMP.OUTER_SAMPLE, WrappersMP.DIFFUSION_MODEL, WrappersMP.APPLY_MODEL)
# Lists of blocks → what patches call one, in the order in which a model runs them.
_BLOCK_LISTS = (
    ("double_blocks", "double_block"),
    ("single_blocks", "single_block"),
    ("joint_blocks", "double_block"),
    ("transformer_blocks", "double_block"),
)
# Of models that call blocks only that; others with such a list may join them in other ways.
_WAN_BLOCKS = ("blocks", "double_block")
# Where transformer options are among the arguments behind x, of UNetModel's forward and of apply_model.
_OPTIONS = 4
Place = tuple[str, int]


def with_first_block_cache(model: Any, settings: CacheSettings) -> Any:
    """Return a clone with these settings in place of those that it had; the model itself if both are none.

    Raises:
        InputError: The model's blocks are of no kind that is known.
    """
    if not settings.can_work and not _has_cache(model):
        return model
    clone = model.clone()
    for kind in _WRAPPERS:
        clone.remove_wrappers_with_key(kind, KEY)
    if not settings.can_work:
        return clone
    run = CachedRun(settings)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, run.around_run)
    network = clone.model.diffusion_model
    if _is_unet(network):
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, run.around_unet)
        return clone
    run.places = list(_places(network))
    if len(run.places) < 2:
        raise InputError(
            f"The first-block cache does not know the blocks of this model ({type(network).__name__}).",
            "It works on SD1.5, SDXL, Wan and on transformers with double, single, joint or transformer "
            "blocks. Switch it off for this model.",
        )
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, run.around_transformer)
    return clone


def _has_cache(model: Any) -> bool:
    return any(KEY in model.wrappers.get(kind, {}) for kind in _WRAPPERS)


def _is_unet(network: Any) -> bool:
    return (
        isinstance(network, UNetModel)
        and len(network.input_blocks) > 1
        and not network.predict_codebook_ids
    )


def _places(network: Any) -> Iterator[Place]:
    lists = (_WAN_BLOCKS,) if isinstance(network, WanModel) else _BLOCK_LISTS
    for attribute, name in lists:
        for number in range(len(getattr(network, attribute, ()))):
            yield name, number


class CachedRun:
    """The wrappers of one clone, and what they know of the run that is under way."""

    def __init__(self, settings: CacheSettings) -> None:
        self.cache = FirstBlockCache(settings)
        self.places: list[Place] = []
        self._window: tuple[float, float] | None = None

    def around_run(self, executor: Any, *args: Any, **options: Any) -> Any:
        """Begin anew, and keep nothing when the run is over."""
        settings, sampling = self.cache.settings, executor.class_obj.model_patcher
        percent_to_sigma = sampling.get_model_object("model_sampling").percent_to_sigma
        self._window = percent_to_sigma(settings.end), percent_to_sigma(settings.start)
        self.cache.reset()
        self.cache.hits = self.cache.full = 0
        try:
            return executor(*args, **options)
        finally:
            self._window = None
            self.cache.reset()
            log.info(
                "first-block cache: %d of %d calls of the model were cut short",
                self.cache.hits,
                self.cache.hits + self.cache.full,
            )

    def around_unet(self, executor: Any, x: torch.Tensor, *args: Any, **named: Any) -> Any:
        """One call of a U-Net."""
        given = _options_of(args, named)
        noise = self._noise(given)
        if noise is None:
            return executor(x, *args, **named)
        network = executor.class_obj
        call = _UnetCall(self.cache, _kind(x, given), noise)
        patches = dict(given.get("patches", {}))
        patches["input_block_patch"] = [*patches.get("input_block_patch", ()), call.after_block]
        handle = network.out.register_forward_pre_hook(call.before_output)
        try:
            return _call(executor, x, args, named, {**given, "patches": patches})
        except _CutShortError as cut:
            hidden = cut.hidden
        finally:
            handle.remove()
        return network.out(hidden.type(x.dtype))

    def around_transformer(self, executor: Any, x: torch.Tensor, *args: Any, **named: Any) -> Any:
        """One call of a transformer."""
        given = _options_of(args, named)
        noise = self._noise(given)
        if noise is None:
            return executor(x, *args, **named)
        call = _TransformerCall(self.cache, _kind(x, given), noise, self.places)
        replace = dict(given.get("patches_replace", {}))
        blocks = dict(replace.get("dit", {}))
        for place in self.places:
            blocks[place] = partial(call.block, place, blocks.get(place))
        replace["dit"] = blocks
        result = _call(executor, x, args, named, {**given, "patches_replace": replace})
        if call.first is None:
            raise InputError(
                "The first-block cache cannot reach the blocks of this model.",
                "Switch it off for this model.",
            )
        return result

    def _noise(self, options: dict[str, Any]) -> float | None:
        """Return the noise level of a call, or None where it is not to be cut short."""
        sigmas = options.get("sigmas")
        if self._window is None or not isinstance(sigmas, torch.Tensor):
            return None
        noise = float(sigmas.max())
        low, high = self._window
        return noise if low <= noise <= high else None


def _options_of(args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Return the transformer options of a call of a U-Net or of a whole model."""
    options = args[_OPTIONS] if len(args) > _OPTIONS else named.get("transformer_options")
    return options or {}


def _call(
    executor: Any, x: torch.Tensor, args: tuple[Any, ...], named: dict[str, Any], options: Any
) -> Any:
    """Make a call with other transformer options."""
    if len(args) > _OPTIONS:
        return executor(x, *args[:_OPTIONS], options, *args[_OPTIONS + 1 :], **named)
    return executor(x, *args, **{**named, "transformer_options": options})


def _kind(x: torch.Tensor, options: dict[str, Any]) -> Hashable:
    """Return what tells calls apart: shape, place, and which conditions they compute in which order."""
    conditions = tuple(options.get("cond_or_uncond", ())), tuple(options.get("uuids", ()))
    return tuple(x.shape), x.dtype, str(x.device), conditions


class _CutShortError(Exception):
    """Leaves a U-Net after its first blocks; never seen outside this module."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__("the first-block cache cuts this call short")
        self.hidden = hidden


class _UnetCall:
    """One call of a U-Net: its first block is input block 1, behind the convolution on the latent."""

    def __init__(self, cache: FirstBlockCache, kind: Hashable, noise: float) -> None:
        self._cache, self._kind, self._noise = cache, kind, noise
        self._before: torch.Tensor | None = None
        self._first: torch.Tensor | None = None

    def after_block(self, hidden: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        number = options["block"][1]
        if number == 0:
            self._before = hidden
        elif number == 1:
            before, self._before = self._before, None
            assert before is not None
            residual = hidden - before if before.shape == hidden.shape else hidden.clone()
            if self._cache.may_skip(self._kind, self._noise, residual):
                raise _CutShortError(self._cache.skipped(self._kind, hidden))
            self._first = hidden.clone()  # later blocks and patches may write into it
        return hidden

    def before_output(self, _: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if self._first is not None:
            self._cache.keep(self._kind, self._first, args[0])


class _TransformerCall:
    """One call of a transformer, block by block."""

    def __init__(
        self, cache: FirstBlockCache, kind: Hashable, noise: float, places: list[Place]
    ) -> None:
        self._cache, self._kind, self._noise = cache, kind, noise
        self._opening, self._closing = places[0], places[-1]
        self._skips = False
        self.first: torch.Tensor | None = None

    def block(
        self,
        place: Place,
        other: Callable[..., Any] | None,
        args: dict[str, Any],
        extra: dict[str, Any],
    ) -> dict[str, Any]:
        """Run a block, or what another node put in its place, or neither."""
        if self._skips:
            passed: dict[str, Any] = {name: args[name] for name in ("img", "txt") if name in args}
            if place == self._closing:
                assert self.first is not None
                image = self._cache.skipped(self._kind, self.first)
                passed["img"] = torch.cat([args["img"][:, : -image.shape[1]], image], dim=1)
            return passed
        # Blocks add to their input in place.
        before = args["img"].clone() if place == self._opening else None
        out: dict[str, Any] = extra["original_block"](args) if other is None else other(args, extra)
        if before is not None:
            self._open(before, out["img"])
        if place == self._closing:
            assert self.first is not None
            # Where text and image are one sequence, the image is its end.
            self._cache.keep(self._kind, self.first, out["img"][:, -self.first.shape[1] :])
        return out

    def _open(self, before: torch.Tensor, after: torch.Tensor) -> None:
        self.first = after.clone()  # a ControlNet writes into it
        self._skips = self._cache.may_skip(self._kind, self._noise, after - before)

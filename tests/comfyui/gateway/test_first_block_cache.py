"""The first-block cache on ComfyUI's models: off it changes nothing, on it saves work and changes little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from .conftest import conditioning, draw

# What the documentation promises at a threshold of 0.1: how far the latents may be off, on average.
TOLERANCE = 0.1
FAMILIES = ("sd15", "sdxl", "flux", "sd3", "qwen", "wan")
# Where a network has its blocks, in the order in which it runs them.
BLOCKS = ("double_blocks", "joint_blocks", "transformer_blocks", "blocks", "single_blocks")


@pytest.fixture
def drawing(
    stock: Callable[[str], Any], transformers: Callable[[str], Any]
) -> Callable[[str], tuple[Any, Callable[[Any], torch.Tensor]]]:
    """Return a model, and what draws with it or a clone."""

    def of(family: str) -> tuple[Any, Callable[[Any], torch.Tensor]]:
        if family in ("sd15", "sdxl"):
            width, pooled, channels = (768, 0, 4) if family == "sd15" else (2048, 1280, 4)
            model = stock(family).model
        else:
            width, pooled, channels = 48, 32 if family in ("flux", "sd3") else 0, 16
            model = transformers(family)
        conditions = conditioning(width, pooled), conditioning(width, pooled, seed=2)
        steps = 8 if channels == 4 else 24  # a random transformer changes much from step to step
        return model, lambda used: draw(used, conditions, channels, steps)

    return of


def cached(model: Any, threshold: float = 0.1, **settings: Any) -> Any:
    from luna_collection.nodes.sampling.first_block_cache import with_first_block_cache
    from luna_collection.utils.sampling.first_block_cache import CacheSettings

    return with_first_block_cache(model, CacheSettings(threshold, **settings))


@contextmanager
def counted(model: Any) -> Iterator[dict[str, int]]:
    """Count how often the first and the last block of a model run."""
    network = model.model.diffusion_model
    if hasattr(network, "input_blocks"):
        ends = network.input_blocks[0], network.output_blocks[-1]
    else:
        lists = [getattr(network, name) for name in BLOCKS if hasattr(network, name)]
        ends = lists[0][0], lists[-1][-1]
    counts = {"first": 0, "last": 0}

    def counter(name: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            counts[name] += 1

        return count

    # A module list has no calls of its own: the hook is on what is called first inside it.
    handles = [
        next(iter(_callable(block))).register_forward_pre_hook(counter(name))
        for name, block in zip(counts, ends, strict=True)
    ]
    yield counts
    for handle in handles:
        handle.remove()


def _callable(block: torch.nn.Module) -> list[torch.nn.Module]:
    name = type(block).__name__
    if name == "TimestepEmbedSequential":
        return [next(iter(block.children()))]
    if name == "JointBlock":
        return [block.x_block.attn.qkv]  # type: ignore[union-attr,list-item]
    return [block]


@pytest.mark.parametrize("family", FAMILIES)
def test_off_is_the_model_itself(drawing, family):
    model, run = drawing(family)
    for settings in ({"threshold": 0.0}, {"max_hits": 0}, {"start": 0.5, "end": 0.5}):
        assert cached(model, **settings) is model
    again = cached(cached(model), 0.0)
    assert again is not model
    assert torch.equal(run(again), run(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_threshold_that_nothing_meets_changes_no_bit(drawing, family):
    model, run = drawing(family)
    assert torch.equal(run(cached(model, 1e-9)), run(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_on_saves_work_and_stays_close(drawing, family):
    model, run = drawing(family)
    wanted = run(model)
    with counted(model) as counts:
        made = run(cached(model, 0.1))
    assert 0 < counts["last"] < counts["first"]
    assert torch.isfinite(made).all()
    off = (made - wanted).abs().mean() / wanted.abs().mean()
    assert off < TOLERANCE
    assert torch.equal(run(model), wanted)


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_runs_are_independent(drawing, family):
    model, run = drawing(family)
    clone = cached(model, 0.1)
    assert torch.equal(run(clone), run(clone))


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_hits_in_a_row_are_bounded(drawing, family):
    model, run = drawing(family)
    with counted(model) as free:
        run(cached(model, 1.0))
    with counted(model) as bounded:
        run(cached(model, 1.0, max_hits=1))
    assert free["last"] < bounded["last"] < bounded["first"]
    assert bounded["last"] >= bounded["first"] / 2


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_outside_its_window_nothing_is_saved(drawing, family):
    model, run = drawing(family)
    with counted(model) as whole:
        run(cached(model, 1.0))
    with counted(model) as part:
        run(cached(model, 1.0, start=0.5))
    assert whole["last"] < part["last"] < part["first"]


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_patches_and_wrappers_of_others_stay_in_place(drawing, family):
    from comfy.patcher_extension import WrappersMP

    model, run = drawing(family)
    seen: list[str] = []

    def wrapper(executor: Any, *args: Any, **options: Any) -> Any:
        seen.append("wrapper")
        return executor(*args, **options)

    other = model.clone()
    other.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", wrapper)
    if family == "sd15":
        other.set_model_input_block_patch(lambda h, _: seen.append("patch") or h * 1.01)
    else:

        def replacement(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            seen.append("patch")
            out: dict[str, Any] = extra["original_block"](args)
            return {**out, "img": out["img"] * 1.01}

        other.set_model_patch_replace(replacement, "dit", "double_block", 0)
    wanted = run(other)
    assert not torch.equal(wanted, run(model))
    seen.clear()
    assert torch.equal(run(cached(other, 1e-9)), wanted)
    assert {"wrapper", "patch"} <= set(seen)
    made = run(cached(other, 0.1))
    assert (made - wanted).abs().mean() < TOLERANCE * wanted.abs().mean()


def test_a_second_cache_takes_the_place_of_the_first(drawing):
    model, run = drawing("sd15")
    with counted(model) as counts:
        run(cached(cached(model, 1.0), 1e-9))
    assert counts["first"] == counts["last"] > 0


def test_a_model_whose_blocks_are_unknown_is_refused(transformers):
    from luna_collection.utils.errors import InputError

    model = transformers("flux").clone()
    network = model.model.diffusion_model
    doubles, singles = network.double_blocks, network.single_blocks
    network.double_blocks = network.single_blocks = torch.nn.ModuleList()
    try:
        with pytest.raises(InputError, match="does not know the blocks"):
            cached(model)
    finally:
        network.double_blocks, network.single_blocks = doubles, singles

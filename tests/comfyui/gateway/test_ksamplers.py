"""Luna's samplers: what ComfyUI's give, with values from inputs and pipes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .conftest import conditioning

NUMBERS = {"steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}


@pytest.fixture
def values(stock: Callable[[str], Any]) -> dict[str, Any]:
    """Return everything that a sampler takes."""
    samples = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1.0
    return {
        "model": stock("sd15").model,
        "positive": conditioning(768),
        "negative": conditioning(768, seed=2),
        "latent_image": {"samples": samples, "noise_mask": mask, "batch_index": [4, 2]},
        "seed": 11,
        "denoise": 0.7,
        **NUMBERS,
    }


def settled(values: dict[str, Any], pipe: Any, *linked: str) -> dict[str, Any]:
    """Settle the values of node 7, of which these inputs are linked to node 1."""
    from comfy_execution.graph import DynamicPrompt
    from luna_collection.nodes.sampling.sampling import settled

    inputs = {name: ["1", 0] for name in linked}
    graph = DynamicPrompt({"7": {"class_type": "LunaKSampler", "inputs": inputs}})
    return settled(values, pipe, SimpleNamespace(unique_id="7", dynprompt=graph))


def same(ours: dict[str, Any], stock: dict[str, Any]) -> bool:
    return ours.keys() == stock.keys() and torch.equal(ours["samples"], stock["samples"])


def test_the_sampler_gives_what_ksampler_gives(values):
    from luna_collection.nodes.sampling.sampling import sample

    import nodes

    wanted = nodes.KSampler().sample(**values)[0]
    assert same(sample(settled(values, None)), wanted)
    assert not same(sample({**values, "seed": 12}), wanted)


def test_the_advanced_one_gives_what_the_advanced_one_gives(values):
    from luna_collection.nodes.sampling.sampling import sample

    import nodes

    del values["denoise"]
    values["noise_seed"] = values.pop("seed")
    values |= {"start_at_step": 1, "end_at_step": 2, "add_noise": "disable"}
    values["return_with_leftover_noise"] = "enable"
    wanted = nodes.KSamplerAdvanced().sample(**values)[0]
    assert same(sample(settled(values, None), "KSamplerAdvanced"), wanted)


def test_noise_of_ones_own_is_used_as_it_is(values):
    import comfy.sample
    from luna_collection.nodes.sampling.sampling import sample_with_noise

    import nodes

    latent = values["latent_image"]
    noise = comfy.sample.prepare_noise(latent["samples"], 11, latent["batch_index"])
    wanted = nodes.KSampler().sample(**values)[0]
    assert same(sample_with_noise(values, noise), wanted)
    assert not same(sample_with_noise(values, noise * 0.9), wanted)


def test_an_empty_latent_of_another_model_is_made_to_fit_also_with_noise(values, transformers):
    from luna_collection.nodes.sampling.sampling import sample_with_noise
    from luna_collection.utils.errors import InputError

    import nodes

    values |= {"model": transformers("flux"), "denoise": 1.0}
    values |= {"positive": conditioning(48, 32), "negative": conditioning(48, 32)}
    values["latent_image"] = nodes.EmptyLatentImage().generate(64, 64, 1)[0]
    noise = torch.randn(1, 16, 8, 8, generator=torch.manual_seed(11))
    assert same(sample_with_noise(values, noise), nodes.KSampler().sample(**values)[0])
    with pytest.raises(InputError, match=r"shape \(1, 4, 8, 8\).*\(1, 16, 8, 8\)"):
        sample_with_noise(values, noise[:, :4])


def test_what_is_linked_beats_the_pipe_and_the_pipe_beats_the_widgets(values):
    from luna_collection.utils.errors import InputError
    from luna_collection.utils.sampling.pipe import Pipe

    pipe = Pipe(model="m", positive="+", negative="-", latent="l", seed=5, steps=9, sampler="ddim")
    shown = {
        **dict.fromkeys(("model", "positive", "negative", "latent_image")),
        "seed": 1,
        **NUMBERS,
    }
    found = settled({**shown, "model": "mine"}, pipe, "model", "steps")
    assert (found["model"], found["steps"]) == ("mine", 3)
    assert (found["latent_image"], found["seed"], found["sampler_name"]) == ("l", 5, "ddim")
    assert found["cfg"] == 4.0  # the pipe does not say it
    assert settled({**shown, "noise_seed": 1}, pipe)["noise_seed"] == 5
    with pytest.raises(InputError, match="no positive, negative, latent_image"):
        settled(shown, Pipe(model="m"))
    with pytest.raises(InputError, match="no model"):
        settled(shown, None)


def test_the_headless_one_takes_everything_from_the_pipe(values):
    from luna_collection.nodes.sampling.luna_ksamplers import LunaKSamplerHeadless
    from luna_collection.utils.errors import InputError

    import nodes

    wanted = nodes.KSampler().sample(**values)[0]
    older = (
        *(values["model"], None, None, values["positive"], values["negative"]),
        *(values["latent_image"], 64, 64, 11, 3, 4.0, 0.7, "euler", "normal"),
    )
    assert same(LunaKSamplerHeadless.execute(older).result[0], wanted)
    with pytest.raises(InputError, match="no latent, steps, cfg"):
        LunaKSamplerHeadless.execute((values["model"], 0, 0, 1, 1, 5, "euler", "normal"))

"""A second model: shared text encoders, and a first model that leaves the device and comes back."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from ..loras.conftest import assert_weights, patched_weights, stock_chain, weights_in_memory
from ..proxy.comparing import assert_differ, assert_same, encode, with_lora


def sample(model: Any, clip: Any) -> torch.Tensor:
    import nodes

    positive, negative = encode(clip, "a lighthouse"), encode(clip, "blurry")
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    (drawn,) = nodes.common_ksampler(
        model, 7, 2, 5.0, "euler", "normal", positive, negative, latent
    )
    result: torch.Tensor = drawn["samples"]
    return result


def loaded() -> list[Any]:
    """Return the modules of what is on a device, by ComfyUI's bookkeeping."""
    import comfy.model_management

    return [patcher.model for patcher in comfy.model_management.loaded_models()]


def shares(first: Any, second: Any, encoder: str) -> bool:
    """Do the weights of an encoder lie in the same memory?"""
    places = [
        {
            name: weight.data_ptr()
            for name, weight in getattr(
                clip.cond_stage_model, encoder
            ).transformer.named_parameters()
        }
        for clip in (first, second)
    ]
    same = [name for name in places[0] if places[0][name] == places[1].get(name)]
    return len(same) > 100


def take_over(
    first: Any, model: Any, kind: str, chosen: Any = None, mode: str = "force_local"
) -> Any:
    """Open a second model's text encoders as the node does."""
    from luna_collection.nodes.loaders.second_model import First
    from luna_collection.nodes.loaders.shared_encoders import open_encoders
    from luna_collection.nodes.local_models import LocalModels
    from luna_collection.nodes.model_folders import shelf
    from luna_collection.nodes.model_source import DaemonMode
    from luna_collection.utils.model_types import find_model_type
    from luna_collection.utils.routing.encoder_sharing import share_encoders

    file = shelf.at(chosen) if chosen else None
    roles = First(clip=first).roles
    found = share_encoders(find_model_type(kind), roles, file, shelf.at(model), shelf)
    return open_encoders(found, first, LocalModels(), DaemonMode(mode))


# The first model leaves and comes back


def test_a_model_with_loras_comes_back_bit_for_bit(stock, loras):
    from luna_collection.nodes.loaders.memory import restore, unload

    of = stock("sd15")
    plain = patched_weights(of.model)
    entries = [(name, 0.8, 0.6) for name in loras("sd15", 2)]
    model, clip = stock_chain(of.model, of.clip, entries)
    drawn, weights = sample(model, clip), patched_weights(model)
    assert any(not torch.equal(weights[key], plain[key]) for key in plain)
    assert model.model in loaded()
    assert unload(model) == model.model_size()
    assert model.model not in loaded()
    assert model.loaded_size() == 0
    assert not model.backup
    assert_weights(weights_in_memory(model), plain)
    assert unload(model) == 0
    status = restore(model)
    assert model.model in loaded()
    assert f"{model.model_size() / 1e6:.0f} of {model.model_size() / 1e6:.0f} MB" in status
    assert f"with {len(model.patches)} patched weights" in status
    assert_weights(weights_in_memory(model), weights)
    assert torch.equal(sample(model, clip), drawn)


def test_only_the_model_itself_leaves(stock):
    from luna_collection.nodes.loaders.memory import restore, unload

    first, second = stock("sd15").model, stock("sdxl").model
    restore(first)
    restore(second)
    assert unload(first.clone()) > 0
    assert first.model not in loaded()
    assert second.model in loaded()


def test_the_first_makes_way_whenever_the_second_is_sampled_with(stock, loras):
    from luna_collection.nodes.loaders.memory import make_way, restore

    of = stock("sd15")
    first, _ = stock_chain(of.model, of.clip, [(loras("sd15", 1)[0], 0.5, 0.5)])
    other = second_model(stock)
    plain = sample(other, of.clip)
    make_way(other, of.model)
    for _ in range(2):
        drawn = sample(first, of.clip)
        assert first.model in loaded()
        assert torch.equal(sample(other.clone(), of.clip), plain)
        assert first.model not in loaded()
        assert other.model in loaded()
    restore(first)
    assert torch.equal(sample(first, of.clip), drawn)


def second_model(stock: Any) -> Any:
    import comfy.sd

    path = stock("sd15").encoders[0].parents[1] / "diffusion_models/sd15_unet.safetensors"
    return comfy.sd.load_diffusion_model(str(path))


def test_a_model_that_is_gone_is_not_kept_by_the_second(stock):
    from luna_collection.nodes.loaders.memory import make_way
    from luna_collection.nodes.loaders.parked_models import find, park

    first, other = second_model(stock), second_model(stock)
    name = park(first)
    make_way(other, first)
    assert find(name) is first
    assert find("") is first
    clip = stock("sd15").clip
    sample(first, clip)
    model = weakref.ref(first.model)
    del first
    gc.collect()
    assert model() is None
    with pytest.raises(Exception, match="is not among the models"):
        find(name)
    assert sample(other, clip).shape == (1, 4, 8, 8)


def test_names_are_the_same_in_every_run_and_tell_patches_apart(stock, loras):
    from luna_collection.nodes.loaders.parked_models import find, name_of, park

    of = stock("sd15")
    first = second_model(stock)
    name = park(first)
    assert name.startswith("sd15_unet-")
    clone = first.clone()
    assert park(clone) == name
    patched, _ = stock_chain(first, of.clip, [(loras("sd15", 1)[0], 0.5, 0.5)])
    other = park(patched)
    assert other == f"{name}-2"
    again = second_model(stock)
    assert name_of(again) == name
    assert find(name) is clone
    assert find(other) is patched
    again.cached_patcher_init = None
    assert name_of(again) == name_of(again.clone()) != name


# Text encoders


def test_a_smaller_set_is_the_firsts_in_the_same_memory(stock, model_files):
    import comfy.sd

    first = stock("sdxl").clip
    before = encode(first)
    clip, told = take_over(first, model_files / "diffusion_models/sd15_unet.safetensors", "SD1.5")
    alone = comfy.sd.load_clip([str(stock("sdxl").encoders[0])])
    assert_same(encode(clip), encode(alone))
    assert_same(encode(first), before)
    assert shares(first, clip, "clip_l")
    assert told == "CLIP: CLIP-L shared (local, in the same memory)"


def test_a_larger_set_is_merged_from_the_first_and_a_file(stock, model_files):
    first = stock("sd15").clip
    clip, told = take_over(
        first,
        model_files / "checkpoints/sd_xl_base_1.0.safetensors",
        "SDXL",
        model_files / "text_encoders/clip_g.safetensors",
    )
    assert_same(encode(clip), encode(stock("sdxl").clip))
    assert shares(first, clip, "clip_l")
    assert told == "CLIP: CLIP-L shared, CLIP-G 'clip_g.safetensors' (local, in the same memory)"


def test_an_encoder_is_taken_out_of_the_second_models_checkpoint(stock, whole_sdxl):
    import comfy.sd

    clip, told = take_over(stock("sd15").clip, whole_sdxl, "SDXL")
    whole = comfy.sd.load_checkpoint_guess_config(str(whole_sdxl), output_vae=False)[1]
    assert_same(encode(clip), encode(whole))
    assert_same(encode(clip), encode(stock("sdxl").clip))
    assert "CLIP-G from 'sdxl_whole.safetensors'" in told


def test_loras_on_shared_encoders_come_along_and_do_not_leak(stock, model_files):
    import comfy.sd

    first = with_lora(stock("sdxl").clip, text_lora(5))
    patched = encode(first)
    clip, _ = take_over(first, model_files / "diffusion_models/sd15_unet.safetensors", "SD1.5")
    alone = comfy.sd.load_clip([str(stock("sdxl").encoders[0])])
    wanted = with_lora(alone, text_lora(5))
    assert clip.patcher.patches.keys() == {
        key for key in first.patcher.patches if key.startswith("clip_l.")
    }
    assert_same(encode(clip), encode(wanted))
    assert_differ(encode(clip), encode(alone))
    assert_same(encode(first), patched)
    assert_same(encode(with_lora(clip, text_lora(6))), encode(with_lora(wanted, text_lora(6))))
    assert_same(encode(first), patched)
    assert_same(encode(clip), encode(wanted))


def test_the_same_family_takes_them_as_they_are(stock, whole_sdxl):
    first = stock("sdxl").clip
    clip, told = take_over(first, whole_sdxl, "SDXL")
    assert clip is first
    assert told == "CLIP: CLIP-L and CLIP-G shared (as it is)"


def test_what_is_not_carried_is_said(stock):
    from luna_collection.nodes.loaders.shared_encoders import not_carried

    first = stock("sdxl").clip.clone()
    assert not_carried(first) == ""
    first.clip_layer(-3)
    assert "clip skip" in not_carried(first)


# In the daemon


@pytest.mark.parametrize("inside", [("clip_l", "clip_g"), ("", "clip_g")])
def test_encoders_inside_checkpoints_are_taken_out_in_the_daemon_too(
    stock, models, calls, whole_sdxl, inside
):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of = stock("sdxl")
    files = [whole_sdxl if role else of.encoders[0] for role in inside]
    clip = open_clip(models, files, "STABLE_DIFFUSION", inside=inside)
    before = len(calls.made)
    assert_same(encode(clip), encode(of.clip))
    assert len(calls.made) > before
    lora = text_lora(5)
    assert_same(encode(with_lora(clip, lora)), encode(with_lora(of.clip, lora)))


def test_where_shared_encoders_of_the_daemon_came_from_is_known(stock, models, whole_sdxl):
    from luna_collection.luna_daemon.proxy.opening import open_clip
    from luna_collection.nodes.loaders.second_model import First
    from luna_collection.nodes.loaders.shared_encoders import _places
    from luna_collection.nodes.model_folders import shelf
    from luna_collection.utils.model_types import find_model_type
    from luna_collection.utils.routing.encoder_sharing import share_encoders

    first = open_clip(models, [whole_sdxl], "STABLE_DIFFUSION", checkpoint=True)
    assert First(clip=first).roles == ("clip_l", "clip_g")
    assert First(clip=first).family("auto") == "SDXL"
    kind = find_model_type("SD1.5")
    found = share_encoders(kind, ("clip_l",), None, shelf.at(whole_sdxl), shelf)
    part = found.part(_places(first, found))
    assert part.inside == ("clip_l",)
    clip = open_clip(models, [file.path for file in part.files], part.clip_type, inside=part.inside)
    assert_same(encode(clip), encode(stock("sd15").clip))

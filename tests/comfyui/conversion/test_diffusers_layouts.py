"""Diffusers' names: the same places that ComfyUI's own loader of diffusers' files gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import Family, sample

UNETS = {
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
    "sd1": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    },
}


@pytest.mark.parametrize("architecture", UNETS)
def test_a_u_nets_tensors_get_comfyuis_places(comfy_is_there: None, architecture: str) -> None:
    import comfy.utils
    from luna_collection.utils.conversion.diffusers_layouts import published_layout
    from luna_collection.utils.conversion.model_tensors import ModelTensor, Piece

    places = comfy.utils.unet_to_diffusers(UNETS[architecture])
    places = {name: to for name, to in places.items() if not name.startswith("class_embedding.")}
    given = {
        name: ModelTensor("F16", (2, 2), (Piece(8 * number, 8),))
        for number, name in enumerate(places)
    }

    found = published_layout(given, architecture)

    assert found == {to: given[name] for name, to in places.items()}


def in_diffusers_layout(
    weights: dict[str, torch.Tensor], places: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Undo what ComfyUI does with the files of diffusers."""
    found = {}
    for name, place in places.items():
        target, cut, change = (*((place,) if isinstance(place, str) else place), None, None)[:3]
        if target not in weights:
            continue
        tensor = weights[target]
        if cut is not None:
            tensor = tensor.narrow(*cut)
        found[name] = (change(tensor) if change else tensor).contiguous()
    return found


def places_of(name: str) -> dict[str, Any]:
    import comfy.utils

    if name == "sd3":
        return dict(comfy.utils.mmdit_to_diffusers({"depth": 4, "num_blocks": 4}))
    sizes = {"depth": 2, "depth_single_blocks": 2, "hidden_size": 256}
    places = comfy.utils.flux_to_diffusers(sizes)
    later = ("linear_in.", "linear_out.", "to_qkv_mlp_proj.", "attn.to_out.weight")  # Flux 2, LoKr
    return {key: to for key, to in places.items() if not any(part in key for part in later)}


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_a_model_in_diffusers_layout_becomes_the_published_one(
    name: str, family: Callable[[str], Family], tmp_path: Path
) -> None:
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_model
    from luna_collection.utils.conversion.converting import converted_once

    source = family(name)
    given = load_file(source.file)
    there = in_diffusers_layout(given, places_of(name))
    path = tmp_path / f"{name}.safetensors"
    save_file(there, path)

    made = converted_once(path, "fp16", tmp_path / "unet")

    found = load_file(made.path)
    scales = {key: key.replace("_norm.weight", "_norm.scale") for key in given}
    names = scales if name == "flux" else {key: key for key in given}
    assert found.keys() == set(names.values())
    assert all(torch.equal(found[names[key]], given[key].half()) for key in given)
    quantised = [
        converted_once(file, "gguf_Q8_0", tmp_path / "gguf") for file in (path, source.file)
    ]
    ours, theirs = (sample(load_gguf_model(str(one.path)), source) for one in quantised)
    assert torch.equal(ours, theirs)

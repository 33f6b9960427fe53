"""Routers in graphs that people build: several, in subgraphs, behind switches; and unusual weights."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .workflows import SD15, STOCK, drawing, pixels, router

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 200)
APART = {
    "model_source": "diffusion_models",
    "model_name": "sd15_unet.safetensors",
    "model_type": "SD1.5",
    "model_type__clip_l": "clip_l.safetensors",
    "vae_name": "sdxl_vae.safetensors",
}


@pytest.fixture(scope="module")
def drawn(server: Any) -> bytes:
    """Return what ComfyUI's own loader leads to."""
    return pixels(server.image(drawing(STOCK)))


def renamed(prompt: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a prompt with other ids, as ComfyUI's page gives the nodes of a subgraph."""
    made = {}
    for node_id, node in copy.deepcopy(prompt).items():
        for value in node["inputs"].values():
            if isinstance(value, list):
                value[0] = prefix + value[0]
        made[prefix + node_id] = node
    return made


def images(server: Any, prompt: dict[str, Any]) -> list[bytes]:
    outputs = server.run(prompt)
    shown = {node: output for node, output in outputs.items() if "images" in output}
    return [pixels(server.saved({node: shown[node]})) for node in sorted(shown)]


def test_two_routers_with_different_types_in_a_graph_with_subgraphs(server, drawn):
    other = router(
        model_type="Other",
        model_type__clip_type="stable_diffusion",
        model_type__clip_1="clip_l.safetensors",
        **{f"model_type__clip_{number}": "None" for number in (2, 3, 4)},
    )
    both = {**renamed(drawing(router(**APART)), "4:12:"), **renamed(drawing(other), "9:")}
    assert images(server, both) == [drawn, drawn]


def test_what_comes_by_way_of_a_switch_is_loaded(server, drawn):
    prompt = drawing(router(**APART), text="a lighthouse")
    for number, (node, name) in enumerate((("5", "model"), ("6", "vae"))):
        source = prompt[node]["inputs"][name]
        inputs = {"condition": False, "on_false": source}
        prompt[f"8{number}"] = {"class_type": "LunaSwitch", "inputs": inputs}
        prompt[node]["inputs"][name] = [f"8{number}", 0]
    assert images(server, prompt) == [drawn]


def test_a_file_that_was_added_meanwhile_is_listed_and_taken(server, drawn):
    models = server.base / "models"
    with pytest.raises(RunFailedError):
        server.run(drawing(router(**{**APART, "vae_name": "new/vae.safetensors"})))
    (models / "vae/new").mkdir()
    shutil.copy(models / "vae/sdxl_vae.safetensors", models / "vae/new/vae.safetensors")
    assert images(server, drawing(router(**{**APART, "vae_name": "new/vae.safetensors"}))) == [
        drawn
    ]


def test_the_chosen_source_decides_between_files_of_the_same_name(server, drawn):
    """The checkpoint of that name is a whole one, the other a diffusion model alone."""
    models = server.base / "models"
    name = "same.safetensors"
    shutil.copy(models / "checkpoints" / SD15, models / "checkpoints" / name)
    shutil.copy(
        models / "diffusion_models/sd15_unet.safetensors", models / "diffusion_models" / name
    )
    assert images(server, drawing(router(model_name=name))) == [drawn]
    assert images(server, drawing(router(**{**APART, "model_name": name}))) == [drawn]
    with pytest.raises(RunFailedError, match=r"a diffusion model .SD1.5. without a VAE"):
        server.run(drawing(router(**{**APART, "model_name": name, "vae_name": "from checkpoint"})))


def test_a_diffusion_model_in_fp8_is_taken_as_comfyui_takes_it(server, drawn):
    import torch
    from safetensors.torch import load_file, save_file

    folder, name = server.base / "models/diffusion_models", "sd15_fp8.safetensors"
    weights = load_file(folder / "sd15_unet.safetensors")
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in weights.items()}, folder / name)
    prompt = drawing(router(**{**APART, "model_name": name}))
    ours = images(server, prompt)
    unet = {"unet_name": name, "weight_dtype": "default"}
    prompt["10"] = {"class_type": "UNETLoader", "inputs": unet}
    prompt["5"]["inputs"]["model"] = ["10", 0]
    assert ours == images(server, prompt)
    assert ours != [drawn]


def test_a_saved_prompt_without_the_optional_inputs_runs(server, drawn):
    prompt = drawing(router(**APART))
    assert "dynamic_precision" not in prompt["1"]["inputs"]
    assert images(server, prompt) == [drawn]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("loras/style.safetensors", "is a LoRA, not a diffusion model"),
        ("vae/sdxl_vae.safetensors", "is a VAE, not a diffusion model"),
        ("text_encoders/clip_l.safetensors", "is a text encoder (clip_l), not a diffusion model"),
    ],
)
def test_a_file_of_another_kind_among_the_checkpoints_is_named(server, file, said):
    models = server.base / "models"
    name = "wrong " + file.rpartition("/")[2]
    shutil.copy(models / file, models / "checkpoints" / name)
    with pytest.raises(RunFailedError) as failed:
        server.run(drawing(router(model_name=name)))
    assert f"'{name}' {said}" in failed.value.details[0]["exception_message"]


def test_half_a_download_is_named(server):
    models = server.base / "models/checkpoints"
    (models / "half.safetensors").write_bytes((models / SD15).read_bytes()[:100_000])
    with pytest.raises(RunFailedError) as failed:
        server.run(drawing(router(model_name="half.safetensors")))
    assert "'half.safetensors'" in failed.value.details[0]["exception_message"]

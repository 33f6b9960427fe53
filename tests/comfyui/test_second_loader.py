"""Workflows with two models on a real ComfyUI, over HTTP."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .workflows import STOCK, drawing, pixels, router, with_lora

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 200)
STATUS, PRIMARY_ID = 4, 5


def second(**inputs: object) -> dict[str, Any]:
    values = {
        "model_source": "diffusion_models",
        "model_name": "sd15_unet.safetensors",
        "model_type": "Auto",
        "unload_primary_to_ram": True,
        "primary_model": ["1", 0],
        "primary_clip": ["1", 1],
        "primary_vae": ["1", 2],
        "daemon_mode": "force_local",
    }
    return {"class_type": "LunaSecondaryModelLoader", "inputs": {**values, **inputs}}


def two_models(mode: str = "force_local", seed: int = 7, **inputs: object) -> dict[str, Any]:
    """Draw with a first model, then with a second, then once more with the first."""
    prompt = drawing(router(daemon_mode=mode))
    prompt["20"] = second(daemon_mode=mode, **inputs)
    encode = {"class_type": "CLIPTextEncode"}
    prompt["21"] = {**encode, "inputs": {"text": "a lighthouse", "clip": ["20", 1]}}
    prompt["22"] = {**encode, "inputs": {"text": "blurry", "clip": ["20", 1]}}
    prompt["25"] = copy.deepcopy(prompt["5"])
    prompt["25"]["inputs"] |= {"model": ["20", 0], "positive": ["21", 0], "negative": ["22", 0]}
    prompt["26"] = {"class_type": "VAEDecode", "inputs": {"samples": ["25", 0], "vae": ["20", 2]}}
    prompt["30"] = {
        "class_type": "LunaModelRestore",
        "inputs": {"trigger": ["26", 0], "model_id": ["20", PRIMARY_ID]},
    }
    prompt["35"] = copy.deepcopy(prompt["5"])
    prompt["35"]["inputs"] |= {"model": ["30", 1], "steps": 3}
    prompt["36"] = {"class_type": "VAEDecode", "inputs": {"samples": ["35", 0], "vae": ["1", 2]}}
    for node, images in (("27", ["30", 0]), ("37", ["36", 0])):
        save = {"images": images, "filename_prefix": f"second {node}"}
        prompt[node] = {"class_type": "SaveImage", "inputs": save}
    for node, source in (("8", ["20", STATUS]), ("9", ["30", 2])):
        prompt[node] = {"class_type": "PreviewAny", "inputs": {"source": source}}
    for node in ("5", "25", "35"):
        prompt[node]["inputs"]["seed"] = seed
    return prompt


def picture(server: Any, outputs: dict[str, Any], node: str) -> bytes:
    (image,) = outputs[node]["images"]
    return pixels((server.base / "output" / image["filename"]).read_bytes())


def alone(server: Any, steps: int, seed: int = 7) -> bytes:
    prompt = drawing(STOCK, steps=steps)
    prompt["5"]["inputs"]["seed"] = seed
    return pixels(server.image(prompt))


def check_pictures(server: Any, outputs: dict[str, Any], seed: int = 7) -> None:
    for node, steps in (("7", 2), ("27", 2), ("37", 3)):
        assert picture(server, outputs, node) == alone(server, steps, seed)


def test_both_models_draw_what_they_draw_alone_and_the_first_comes_back(server):
    outputs = server.run(two_models())
    check_pictures(server, outputs)
    first_line, aside, *_ = outputs["8"]["text"][0].splitlines()
    assert first_line == (
        "[SD1.5] | MODEL: sd15_unet.safetensors | CLIP: CLIP-L shared (as it is) | VAE: the primary's"
    )
    assert aside.startswith("Put aside: 'v1-5-pruned-emaonly-fp16-")
    (restored,) = outputs["9"]["text"]
    assert restored.startswith(aside.split(",")[0].removeprefix("Put aside: ") + " is on cpu: ")


def test_another_seed_loads_nothing_again_and_the_first_still_makes_way(server):
    server.run(two_models(seed=1))
    log = server.log.read_text("utf-8", "replace")
    outputs = server.run(two_models(seed=2))
    new = server.log.read_text("utf-8", "replace")[len(log) :]
    assert "model_type EPS" not in new  # what ComfyUI says of a diffusion model that it loads
    # Both are on the device from the run before; the first leaves it for the second, and is brought back.
    assert new.count("Requested to load BaseModel") == 1
    check_pictures(server, outputs, seed=2)


def test_without_the_switch_the_first_may_stay(server):
    prompt = two_models(seed=3, unload_primary_to_ram=False)
    prompt["30"]["inputs"] |= {"model_id": "", "original_model": ["1", 0]}
    outputs = server.run(prompt)
    check_pictures(server, outputs, seed=3)
    assert "Put aside" not in outputs["8"]["text"][0]


def test_a_lora_of_the_first_model_is_on_it_when_it_comes_back(server):
    prompt = with_lora(drawing(STOCK, steps=3))
    wanted = pixels(server.image(prompt))
    both = two_models()
    both["10"] = copy.deepcopy(prompt["8"])
    both["20"]["inputs"] |= {"primary_model": ["10", 0]}
    for node in ("2", "3"):
        both[node]["inputs"]["clip"] = ["10", 1]
    outputs = server.run(both)
    assert picture(server, outputs, "37") == wanted
    assert "patched weights" in outputs["9"]["text"][0]


def test_a_model_of_another_workflow_is_not_kept(server):
    outputs = server.run(two_models())
    name = outputs["9"]["text"][0].split("'")[1]
    server.image(drawing(STOCK, "something else"))
    prompt = drawing(STOCK, "another thing")
    restore = {"trigger": ["2", 0], "model_id": name}
    prompt["30"] = {"class_type": "LunaModelRestore", "inputs": restore}
    prompt["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["30", 2]}}
    with pytest.raises(RunFailedError, match=f"'{name}' is not among the models"):
        server.run(prompt)


def test_the_same_through_the_daemon(studio):
    server = studio.servers[0]
    outputs = server.run(two_models("force_daemon"))
    check_pictures(server, outputs)
    assert "CLIP-L shared (as it is)" in outputs["8"]["text"][0]
    apart = two_models("force_daemon", primary_clip=["1", 1], seed=4)
    for name in ("primary_clip", "primary_vae"):
        del apart["20"]["inputs"][name]
    outputs = server.run(apart)
    check_pictures(server, outputs, seed=4)
    assert "CLIP: CLIP-L 'clip_l.safetensors' (daemon)" in outputs["8"]["text"][0]

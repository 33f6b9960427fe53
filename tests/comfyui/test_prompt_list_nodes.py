"""Lists of prompts on a real ComfyUI, over its API alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .workflows import SD15

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
LIST = "positive,seed,loras,width,name\nred,0,style:0.5;gone,,a\nblue,-1,,96,b\n"
LOADER = {"json_file": "list.csv", "index": 0, "lora_output": "stack_only", "lora_validation": "include_all"}  # fmt: skip


@pytest.fixture(scope="module")
def stocked(server: Any) -> Any:
    """The server with a list of prompts in its input folder."""
    folder: Path = server.base / "input"
    folder.mkdir(exist_ok=True)
    (folder / "list.csv").write_text(LIST, "utf-8")
    (folder / "lines.txt").write_text("# colours\nred\n\nblue\n", "utf-8")
    return server


def outputs(server: Any, node: str, inputs: dict[str, Any], places: list[int]) -> list[str]:
    """Run one node, and return some of its outputs as PreviewAny shows them."""
    prompt: dict[str, Any] = {"1": {"class_type": node, "inputs": inputs}}
    for place in places:
        prompt[f"o{place}"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", place]}}
    shown = server.run(prompt)
    return [shown[f"o{place}"]["text"][0] if f"o{place}" in shown else "" for place in places]


def test_the_loader_gives_entry_by_entry(stocked):
    first = outputs(stocked, "LunaBatchPromptLoader", LOADER, list(range(10)))
    assert first[0] == "red"
    assert json.loads(first[2]) == [["style.safetensors", 0.5, 0.5], ["gone", 1.0, 1.0]]
    assert first[3:] == ["0", "0", "2", "False", "1024", "1024", "prompt_list/a"]
    wanted = {**LOADER, "index": 3, "base_seed": 4, "filename_prefix": ""}
    second = outputs(stocked, "LunaBatchPromptLoader", wanted, list(range(10)))
    assert second == outputs(stocked, "LunaBatchPromptLoader", wanted, list(range(10)))
    assert second[4:] == ["1", "2", "True", "96", "1024", "b"]


def test_loras_that_are_missing_are_left_out_when_wanted(stocked):
    wanted = {**LOADER, "lora_output": "both", "lora_validation": "only_existing"}
    text, stack = outputs(stocked, "LunaBatchPromptLoader", wanted, [0, 2])
    assert text == "red <lora:style:0.50>"
    assert json.loads(stack) == [["style.safetensors", 0.5, 0.5]]


def test_a_seed_of_minus_one_is_another_one_in_every_run(stocked):
    wanted = {**LOADER, "index": 1}
    seeds = {outputs(stocked, "LunaBatchPromptLoader", wanted, [3])[0] for _ in range(3)}
    assert len(seeds) == 3


def test_what_has_its_picture_is_left_out_until_none_is_left(stocked):
    prompt = {
        "1": {
            "class_type": "LunaBatchPromptLoader",
            "inputs": {**LOADER, "skip_existing": True, "filename_prefix": "resumed/x_"},
        },
        "2": {"class_type": "EmptyImage", "inputs": {"width": ["1", 7], "height": 16, "batch_size": 1, "color": 0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": ["1", 9]}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 4]}},
    }  # fmt: skip
    indexes = []
    for _ in range(3):
        shown = stocked.run(prompt)
        indexes.append(shown["4"]["text"][0])
    assert indexes == ["0", "1", "-1"]
    saved = sorted(path.name for path in (stocked.base / "output/resumed").iterdir())
    assert saved == ["x_a_00001_.png", "x_b_00001_.png"]


def saving(prefix: str, positive: Any, negative: Any, seed: Any) -> dict[str, Any]:
    """Return a graph that draws a picture and saves it."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SD15}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": positive, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": negative, "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "seed": seed, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": prefix}},
    }  # fmt: skip


def extraction(folder: str) -> dict[str, Any]:
    """Return the inputs that make a list of a folder's pictures."""
    return {
        "image_directory": folder, "output_file": f"{folder}.json", "save_to_input_dir": True,
        "output_directory": "", "overwrite": True, "include_path": False, "export_captions": True,
    }  # fmt: skip


def test_what_the_server_saved_comes_back_as_a_list(stocked):
    stocked.run(saving("owls/owl", "an owl", "day, blurry", 11))
    wanted = extraction("owls")
    status, scanned, extracted = outputs(stocked, "LunaBatchPromptExtractor", wanted, [0, 1, 2])
    assert status.startswith("1 of 1 pictures gave a prompt: 'owls.json'.")
    assert (scanned, extracted) == ("1", "1")
    loaded = outputs(
        stocked, "LunaBatchPromptLoader", {**LOADER, "json_file": "owls.json"}, list(range(9))
    )
    assert loaded[:2] == ["an owl", "day, blurry"]
    assert loaded[3] == "11"
    assert loaded[7:] == ["64", "64"]
    (caption,) = (stocked.base / "output/owls").glob("*.txt")
    assert caption.read_text("utf-8") == "an owl\n"
    with pytest.raises(RunFailedError, match="is there already"):
        outputs(stocked, "LunaBatchPromptExtractor", {**wanted, "overwrite": False}, [0])
    for changed in ({"image_directory": "../.."}, {"output_file": "../x.json"}):
        with pytest.raises(RunFailedError, match=r"leads out|no folder below"):
            outputs(stocked, "LunaBatchPromptExtractor", {**wanted, **changed}, [0])


def test_what_nodes_drew_comes_back_too(stocked):
    prompt = saving("drawn/owl", ["10", 0], ["11", 0], ["10", 1])
    prompt |= {
        "10": {"class_type": "LunaPromptCraft", "inputs": {"template": "{1-1000000} owls", "seed": -1}},
        "11": {"class_type": "LunaYAMLWildcard", "inputs": {
            "prompt_template": "{1-1000000} cats", "seed": ["10", 1]}},
    }  # fmt: skip
    places = (("10", 0), ("10", 1), ("11", 0))
    for number, place in enumerate(places):
        prompt[f"o{number}"] = {"class_type": "PreviewAny", "inputs": {"source": list(place)}}
    shown = stocked.run(prompt)
    positive, seed, negative = (shown[f"o{number}"]["text"][0] for number in range(3))
    outputs(stocked, "LunaBatchPromptExtractor", extraction("drawn"), [0])
    loaded = outputs(
        stocked, "LunaBatchPromptLoader", {**LOADER, "json_file": "drawn.json"}, list(range(4))
    )
    assert loaded[:2] == [positive, negative]
    assert loaded[3] == seed


def test_what_the_loader_gave_is_in_saved_images(stocked):
    (stocked.base / "input/noted.jsonl").write_text(
        '{"prompt": "a wolf", "size": "64x64"}\n', "utf-8"
    )
    prompt = saving("noted/wolf", ["10", 0], ["10", 1], ["10", 3])
    prompt["4"]["inputs"] |= {"width": ["10", 7], "height": ["10", 8]}
    prompt["10"] = {
        "class_type": "LunaBatchPromptLoader",
        "inputs": {**LOADER, "json_file": "noted.jsonl", "base_seed": 3},
    }
    for steps in (1, 2):  # the second time, the loader's result comes from the cache
        prompt["5"]["inputs"]["steps"] = steps
        (image,) = stocked.run(prompt)["7"]["images"]
        with Image.open(stocked.base / "output/noted" / image["filename"]) as picture:
            saved = json.loads(picture.info["prompt"])
        noted = saved["10"]["_meta"]["luna_outputs"]
        assert {**noted, "3": 0} == {"0": "a wolf", "1": "", "3": 0, "7": 64, "8": 64}
        assert noted["3"] > 0


def test_the_text_processor_takes_lines(stocked):
    inputs = {
        "text_file": "lines.txt", "selection_mode": "sequential", "index": 3, "seed": 0, "start_index": 0,
        "stop_index": -1, "step": 1, "additional_text": "a", "delimiter": " ", "concat_mode": "prepend",
    }  # fmt: skip
    assert outputs(stocked, "LunaTextProcessor", inputs, [0, 1, 2, 3]) == [
        "a blue",
        "1",
        "lines",
        "2",
    ]
    with pytest.raises(RunFailedError, match="outside"):
        outputs(stocked, "LunaTextProcessor", {**inputs, "text_file": "../list.csv"}, [0])

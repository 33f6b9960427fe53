"""The nodes for LoRAs and embeddings on a real ComfyUI, over its API alone."""

from __future__ import annotations

import base64
import io
import json
import shutil
import urllib.error
import urllib.request
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError
from .workflows import SD15

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 200)
LORA, INK = "style.safetensors", "sub/ink.safetensors"
POOL = """
- {name: ink, weight_min: 0.3, weight_max: 0.3, tags: [style]}
- {name: style, weight_min: 0.7, weight_max: 0.7, tags: [person]}
"""
LIST = [{"positive_prompt": "<lora:ink:1>", "loras": [{"name": "STYLE"}, {"name": "nobody"}]}]


@pytest.fixture(scope="module")
def stocked(server: Any) -> Any:
    """The server with LoRAs, an embedding, a pool and a list of prompts."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    models = server.base / "models"
    for folder in ("loras/sub", "embeddings/neg", "lora_pools", "../input"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(models / "loras" / LORA, models / "loras" / INK)
    (models / "loras/sub/ink.civitai.json").write_text('{"trainedWords": ["ink, wash", "pen"]}')
    Image.new("RGB", (400, 200), 3).save(models / "loras/sub/ink.preview.png")
    (models / "loras/pointer.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
    )
    (models / "loras/secret.txt").write_text("not for the page")
    save_file({"emb_params": torch.ones(2, 768)}, models / "embeddings/neg/bad.safetensors")
    (models / "lora_pools/pool.yaml").write_text(POOL)
    (server.base / "input/list.json").write_text(json.dumps(LIST))
    return server


def shown(server: Any, node: str, inputs: dict[str, Any], output: int = 0) -> str:
    """Run one node, and return one of its outputs as PreviewAny shows it."""
    prompt = {
        "1": {"class_type": node, "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", output]}},
    }
    (text,) = server.texts(prompt, "2")
    return text


def stack_of(server: Any, node: str, inputs: dict[str, Any], form: str = "") -> str:
    """Run a stacker behind the stack of another pack, and return its stack as Python writes it."""
    prompt: dict[str, Any] = {
        "1": {"class_type": node, "inputs": inputs},
        "2": {"class_type": "StackText", "inputs": {"lora_stack": ["1", 0]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    if form:
        prompt["4"] = {"class_type": "StackMaker", "inputs": {"form": form}}
        name = "optional_lora_stack" if node.endswith("Random") else "lora_stack"
        prompt["1"]["inputs"] = {**inputs, name: ["4", 0]}
    (text,) = server.texts(prompt, "3")
    return text


def fixed(number: int, name: str, model: float, clip: float, prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}lora_{number}": name,
        f"{prefix}model_strength_{number}": model,
        f"{prefix}clip_strength_{number}": clip,
        f"{prefix}enabled_{number}": True,
    }


def drawn(number: int, name: str, prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}lora_{number}_enabled": True,
        f"{prefix}lora_name_{number}": name,
        f"{prefix}min_model_strength_{number}": 0.0,
        f"{prefix}max_model_strength_{number}": 1.0,
        f"{prefix}precision_model_{number}": 0.01,
        f"{prefix}clip_{number}": "as model",
        f"{prefix}chance_{number}": 1.0,
    }


HEAD = {"enabled": True, "show_previews": False}
TWO = {
    **HEAD,
    **fixed(1, LORA, 0.5, 0.25),
    "slot_2": "filled",
    **fixed(2, INK, -1.5, 1.0, "slot_2."),
    "slot_2.slot_3": "filled",
    **fixed(3, "None", 1.0, 1.0, "slot_2.slot_3."),
    "slot_2.slot_3.slot_4": "empty",
}


def test_a_stack_is_a_list_of_tuples(stocked):
    assert stack_of(stocked, "LunaLoRAStacker", TWO) == (
        f"[('{LORA}', 0.5, 0.25), ('{INK}', -1.5, 1.0)] unchanged"
    )


def test_slots_that_a_prompt_does_not_name_are_not_needed(stocked):
    one = {**HEAD, **fixed(1, LORA, 0.5, 0.25)}
    assert stack_of(stocked, "LunaLoRAStacker", one) == f"[('{LORA}', 0.5, 0.25)] unchanged"


@pytest.mark.parametrize("form", ["Efficiency", "Comfyroll", "Easy-Use", "Lora-Manager", "dicts"])
@pytest.mark.parametrize("node", ["LunaLoRAStacker", "LunaLoRAStackerRandom"])
def test_stacks_of_other_packs_come_first_and_stay_as_they_are(stocked, node, form):
    inputs = {**HEAD, **fixed(1, INK, 1.0, 1.0)}
    if node.endswith("Random"):
        inputs = {**HEAD, "seed": 0, "pick_count": 0, **drawn(1, "None")}
    made = stack_of(stocked, node, inputs, form)
    assert made.startswith(f"[('{LORA}', 0.5, 0.25), ('{LORA}', 1.0, 1.0)")
    assert made.endswith("] unchanged")


def test_a_node_that_is_off_gives_what_came_in(stocked):
    off = {**HEAD, "enabled": False, **fixed(1, INK, 1.0, 1.0)}
    assert stack_of(stocked, "LunaLoRAStacker", off, "dicts").startswith(f"[{{'lora': '{LORA}'")
    assert stack_of(stocked, "LunaLoRAStacker", off) == "[] unchanged"


def test_a_lora_that_is_not_there_is_refused_in_a_nested_slot_too(stocked):
    with pytest.raises(RunFailedError, match="not in list"):
        stack_of(stocked, "LunaLoRAStacker", {**TWO, "slot_2.lora_2": "../secret.safetensors"})


def test_random_strengths_are_those_of_the_seed(stocked):
    from luna_collection.utils.seeded_draw import SeededDraw, Steps

    def strength(seed: int, slot: int) -> float:
        stream = SeededDraw(seed, f"slot {slot}")
        stream.fraction(), stream.fraction()
        return stream.number(Steps(0.0, 1.0, 0.01))

    for seed in (0, 1, 2**64 - 1):
        inputs = {
            **HEAD, "seed": seed, "pick_count": 0,
            **drawn(1, LORA), "slot_2": "filled", **drawn(2, INK, "slot_2."),
        }  # fmt: skip
        one, two = strength(seed, 1), strength(seed, 2)
        expected = [(LORA, one, one), (INK, two, two)]
        assert stack_of(stocked, "LunaLoRAStackerRandom", inputs) == f"{expected} unchanged"


def test_a_clip_range_of_its_own(stocked):
    own = {
        "clip_1": "own range",
        "clip_1.min_clip_strength_1": 3.0,
        "clip_1.max_clip_strength_1": 3.0,
        "clip_1.precision_clip_1": 0.1,
        "max_model_strength_1": 0.0,
    }
    inputs = {**HEAD, "seed": 5, "pick_count": 1, **drawn(1, LORA), **own}
    assert stack_of(stocked, "LunaLoRAStackerRandom", inputs) == f"[('{LORA}', 0.0, 3.0)] unchanged"


def randomizer(**changes: Any) -> dict[str, Any]:
    return {
        "lora_count": 5, "seed": 0, "weight_min": 0.5, "weight_max": 0.5, "weight_step": 0.1,
        "pool_file": "pool.yaml", "tags": "", **changes,
    }  # fmt: skip


def test_the_randomizer_draws_from_a_file_and_from_slots(stocked):
    node = "LunaLoRARandomizer"
    assert shown(stocked, node, randomizer()) == "<lora:ink:0.30> <lora:style:0.70>"
    assert shown(stocked, node, randomizer(tags="-style")) == "<lora:style:0.70>"
    assert shown(stocked, node, randomizer(pool_1=INK)) == "<lora:ink:0.50> <lora:style:0.70>"
    assert shown(stocked, node, randomizer(lora_count=0)) == ""
    alone = randomizer(pool_file="None", pool_3=INK)
    assert stack_of_output(stocked, node, alone, 1) == f"[('{INK}', 0.5, 0.5)] unchanged"


def stack_of_output(server: Any, node: str, inputs: dict[str, Any], output: int) -> str:
    prompt = {
        "1": {"class_type": node, "inputs": inputs},
        "2": {"class_type": "StackText", "inputs": {"lora_stack": ["1", output]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    (text,) = server.texts(prompt, "3")
    return text


def test_a_pool_outside_its_folder_is_refused(stocked):
    with pytest.raises(RunFailedError, match="not in list"):
        shown(stocked, "LunaLoRARandomizer", randomizer(pool_file="../../input/list.json"))


def test_a_changed_pool_file_is_noticed(stocked):
    file = stocked.base / "models/lora_pools/mine.yaml"
    file.write_text("- ink\n")
    assert (
        shown(stocked, "LunaLoRARandomizer", randomizer(pool_file="mine.yaml")) == "<lora:ink:0.50>"
    )
    file.write_text("- style  # instead\n")
    assert (
        shown(stocked, "LunaLoRARandomizer", randomizer(pool_file="mine.yaml"))
        == "<lora:style:0.50>"
    )


def test_comfyui_finds_the_embeddings_that_are_written(stocked):
    name = "neg/bad.safetensors"
    written = shown(
        stocked,
        "LunaEmbeddingManager",
        {"embedding_1_enabled": True, "embedding_name_1": name, "weight_1": 1.2},
    )
    assert written == "(embedding:neg/bad:1.20)"
    stocked.run(encoding(f"a cat, {written}"))
    assert "embedding:neg/bad does not exist" not in stocked.tail(400)
    stocked.run(encoding("a cat, (embedding:neg/gone:1.20)"))
    assert "embedding:neg/gone does not exist" in stocked.tail(400)


def encoding(text: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SD15}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }


def test_random_embeddings_are_added_to_a_text(stocked):
    prompt = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "a cat,"}},
        "2": {
            "class_type": "LunaEmbeddingManagerRandom",
            "inputs": {
                "seed": 3, "text": ["1", 0], "embedding_1_enabled": True,
                "embedding_name_1": "neg/bad.safetensors", "min_weight_1": 1.0, "max_weight_1": 1.0,
                "precision_1": 0.1, "slot_2": "empty",
            },
        },
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }  # fmt: skip
    assert stocked.texts(prompt, "3") == ["a cat, embedding:neg/bad"]


def injector(output: int, **changes: Any) -> dict[str, Any]:
    inputs = {
        "injection_mode": "append", "max_triggers_per_lora": 5, "separator": ", ", "deduplicate": True,
        "prompt": "a cat, INK", "lora_stack": ["2", 0], **changes,
    }  # fmt: skip
    return {
        "1": {"class_type": "LunaLoRATriggerInjector", "inputs": inputs},
        "2": {"class_type": "LunaLoRAStacker", "inputs": TWO},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", output]}},
    }


def test_trigger_words_are_added(stocked):
    texts = [stocked.texts(injector(n), "3")[0] for n in (0, 1, 3, 4)]
    assert texts[:3] == ["a cat, INK, wash, pen", "wash, pen", "a cat, INK"]
    assert f"{LORA}: no trigger words found" in texts[3]
    assert f"{INK}: from ink.civitai.json" in texts[3]
    assert stocked.texts(injector(0, trigger_sets="pen"), "3") == ["a cat, INK, pen"]
    assert stocked.texts(injector(0, injection_mode="none"), "3") == ["a cat, INK"]


def test_files_are_checked(stocked):
    inputs = {"check": "files", "check.lora_name": "all", "search_civitai": False}
    outputs = [shown(stocked, "LunaLoRAValidator", inputs, n) for n in range(5)]
    assert outputs[1:] == ["pointer.safetensors", "", "2", "1"]
    assert "Git LFS pointer" in outputs[0]
    assert "base model  SD1.5 (by its tensors)" in outputs[0]
    alone = {**inputs, "check.lora_name": LORA}
    result = stocked.run({"1": {"class_type": "LunaLoRAValidator", "inputs": alone}})
    assert "rank        4" in result["1"]["text"][0]


def test_a_list_is_checked_and_nobody_is_asked(stocked):
    inputs = {"check": "list of prompts", "check.json_file": "list.json", "search_civitai": False}
    outputs = [shown(stocked, "LunaLoRAValidator", inputs, n) for n in range(5)]
    assert outputs[1:] == ["nobody", "", "2", "1"]
    assert outputs[0].startswith("'list.json': 3 LoRAs, 1 of them missing.")


def test_a_stack_is_checked(stocked):
    prompt = {
        "1": {
            "class_type": "LunaLoRAValidator",
            "inputs": {"check": "stack", "check.lora_stack": ["2", 0], "search_civitai": False},
        },
        "2": {"class_type": "StackMaker", "inputs": {"form": "Efficiency"}},
    }
    (text,) = stocked.run(prompt)["1"]["text"]
    assert f"found     {LORA} (2 times): {LORA}" in text


def test_a_check_that_is_not_named_is_an_error_in_words(stocked):
    with pytest.raises(RunFailedError, match="'check' is missing"):
        stocked.run({"1": {"class_type": "LunaLoRAValidator", "inputs": {"search_civitai": False}}})


@pytest.mark.parametrize(
    ("mode", "size"), [("fit", (1024, 576)), ("keep area", (1368, 768)), ("bucket", (1344, 768))]
)
def test_sizes_are_scaled(stocked, mode, size):
    inputs = {
        "width": 1920, "height": 1080, "model_type": "SDXL", "custom_max_size": 1024,
        "round_to": 8, "mode": mode,
    }  # fmt: skip
    sides = [int(shown(stocked, "LunaDimensionScaler", inputs, n)) for n in (0, 1)]
    assert tuple(sides) == size


def fetch(server: Any, query: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    url = f"{server.url}/luna/get_lora_metadata?lora_name={query}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(
                error.read() or b"null"
            )  # ComfyUI's own refusals are empty


def test_the_page_gets_header_picture_and_notes(stocked):
    from PIL import Image

    status, told = fetch(stocked, INK)
    assert status == 200
    assert set(told) == {"metadata", "thumbnail", "user_lore", "triggers", "problems"}
    head, _, data = told["thumbnail"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 128)
    assert told["triggers"] == ["ink", "wash", "pen"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "none.safetensors",
        "..%2Fsecret.txt",
        "secret.txt",
        "%2Fetc%2Fpasswd",
        "sub%2F..%2Fsecret.txt",
    ],
)
def test_other_files_are_not_for_the_page(stocked, name):
    status, told = fetch(stocked, name)
    assert status == 404
    assert "There is no LoRA" in told["error"]


def test_other_sites_get_nothing(stocked):
    status, _ = fetch(stocked, INK, {"Origin": "http://evil.example"})
    assert status == 403

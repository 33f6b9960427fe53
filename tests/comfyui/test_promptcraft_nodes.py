"""The nodes for PromptCraft on a real ComfyUI, over its API alone."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
FILES = {
    "place.yaml": "- {value: beach, tags: [water]}\n",
    "sub/hat.json": '{"items": [{"id": "a", "text": "cap", "payload": "<lora:x:1>"}]}',
    "sub/place.lora.yaml": "water: {loras: [{name: STYLE, model_weight: 0.5, trigger: wet}, gone]}\n",
    "bad/broken.yaml": "items:\n- {id: a, text: x}\n- {id: a, text: y}\n",
}


@pytest.fixture(scope="module")
def stocked(server: Any) -> Any:
    """The server with files for PromptCraft."""
    for name, text in FILES.items():
        path = server.base / "models/wildcards/craft" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return server


def outputs(server: Any, node: str, inputs: dict[str, Any], count: int) -> list[str]:
    """Run one node, and return its outputs as PreviewAny shows them."""
    prompt: dict[str, Any] = {"1": {"class_type": node, "inputs": inputs}}
    for place in range(count):
        prompt[f"o{place}"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", place]}}
    shown = server.run(prompt)
    return [shown[f"o{place}"]["text"][0] for place in range(count)]


def test_promptcraft_from_files(stocked):
    inputs = {"template": "{place}, {sub/hat} {none}", "seed": 0, "wildcards_path": "craft"}
    prompt, seed, stack, triggers, debug = outputs(stocked, "LunaPromptCraft", inputs, 5)
    assert prompt == "beach, cap {none}, wet"
    assert seed == "0"
    assert json.loads(stack) == [["style.safetensors", 0.5, 0.5], ["gone", 1.0, 1.0]]
    assert triggers == "wet"
    data = json.loads(debug)
    assert data["wildcards_path"] == "craft"
    assert data["picks"][0]["source"] == "place.yaml:1"
    told = " ".join(data["warnings"])
    assert "none" in told
    assert "'gone'" in told


def test_a_seed_of_minus_one_draws_anew_and_is_given_out(stocked):
    inputs = {"template": "{1-1000000}", "seed": -1}
    first = outputs(stocked, "LunaPromptCraft", inputs, 2)
    second = outputs(stocked, "LunaPromptCraft", inputs, 2)
    assert first != second
    assert outputs(stocked, "LunaPromptCraft", {**inputs, "seed": int(first[1])}, 2) == first


def test_a_changed_file_counts_in_the_next_run(stocked):
    path = stocked.base / "models/wildcards/craft/fresh/word.yaml"
    path.parent.mkdir(exist_ok=True)
    inputs = {"template": "{word}", "seed": 3, "wildcards_path": "craft/fresh"}
    for number, word in enumerate(("one", "two")):
        path.write_text(f"[{word}]", "utf-8")
        os.utime(path, (1_700_000_000 + number,) * 2)
        assert outputs(stocked, "LunaPromptCraft", inputs, 1) == [word]


def test_what_is_wrong_is_said(stocked):
    broken = {"template": "{broken}", "seed": 1, "wildcards_path": "craft/bad"}
    with pytest.raises(RunFailedError, match=r"broken\.yaml: line 3"):
        outputs(stocked, "LunaPromptCraft", broken, 1)
    with pytest.raises(RunFailedError, match="no folder for wildcards"):
        outputs(stocked, "LunaPromptCraft", {**broken, "wildcards_path": "../.."}, 1)


def test_the_debug_node_shows_it_for_people(stocked):
    prompt = {
        "1": {"class_type": "LunaPromptCraft", "inputs": {"template": "{place}", "seed": 1}},
        "2": {"class_type": "LunaPromptCraftDebug", "inputs": {"debug_json": ["1", 4]}},
    }
    (text,) = stocked.texts(prompt, "2")
    assert "Seed: 1" in text
    assert "place: beach" in text
    assert "Tags: water" in text


def test_the_logic_resolver_needs_no_files(stocked):
    inputs = {
        "text": "a __hat__", "seed": 5, "initial_context": "formal",
        "inline_data": "hat: [{value: 'top __kind__', requires_tags: [formal], payload: P}, "
        "{value: cap, blacklist: [formal]}]\nkind: [hat]",
    }  # fmt: skip
    prompt, payloads, debug = outputs(stocked, "LunaLogicResolver", inputs, 3)
    assert (prompt, payloads) == ("a top hat", "P")
    assert json.loads(debug)["picks"][0]["candidates"] == 1
    assert outputs(stocked, "LunaLogicResolver", {**inputs, "enable_payloads": False}, 2)[1] == ""

from __future__ import annotations

import json

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.prompt_lists import WantedLora, find_wanted, names_in_list
from luna_collection.utils.loras.reports import list_report

LIST = [
    {
        "positive_prompt": "a <lora:ink:0.8> cat <lora:grain:-1e-1:0.5>",
        "negative_prompt": "",
        "loras": [{"name": "kim", "model_strength": 1.0, "clip_strength": 1.0}],
        "embeddings": [],
        "extra": {"seed": 1},
    },
    {"positive_prompt": "b", "loras": ["kim"]},
    "<LoRA:my lora:1>",
]


def test_names_are_counted_wherever_they_stand():
    assert names_in_list(json.dumps(LIST), "l.json") == {
        "kim": 2,
        "ink": 1,
        "grain": 1,
        "my lora": 1,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "'l.json' is not valid JSON"),
        ("{}", "not a list of prompts"),
        ("[3]", "Entry 1 of 'l.json'"),
        ('[{"loras": [{"model_strength": 1}]}]', "Entry 1 of 'l.json' has a LoRA without a name"),
    ],
)
def test_what_is_no_list_is_refused(text, said):
    with pytest.raises(InputError) as caught:
        names_in_list(text, "l.json")
    assert said in str(caught.value)


def test_a_list_may_have_no_loras():
    assert names_in_list('[{"positive_prompt": "a", "loras": null}]', "l.json") == {}


def test_names_are_looked_up_without_false_friends():
    known = ["people/kim.safetensors", "a/ink.safetensors", "b/ink.safetensors"]
    kim, ink, none = find_wanted({"kim": 2, "ink": 1, "kimono": 1}, known)
    assert kim == WantedLora("kim", 2, "people/kim.safetensors")
    assert ink.file == ""
    assert "fits 2 files" in ink.problem
    assert "There is no LoRA 'kimono'" in none.problem
    report = list_report("l.json", (kim, ink, none))
    assert report.splitlines()[0] == "'l.json': 3 LoRAs, 2 of them missing."
    assert "found     kim (2 times): people/kim.safetensors" in report

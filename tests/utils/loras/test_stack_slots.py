from __future__ import annotations

import copy

import pytest
from luna_collection.utils.loras.random_stack import RandomSlot
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.loras.stack_slots import fixed_entries, random_slots, stacked
from luna_collection.utils.seeded_draw import Steps


def slot(number, name, *, enabled=True):
    return {
        f"lora_{number}": name,
        f"model_strength_{number}": number / 10,
        f"clip_strength_{number}": 1,
        f"enabled_{number}": enabled,
    }


def test_slots_that_are_off_or_empty_are_left_out():
    values = {
        **slot(1, "a"),
        "slot_2": {
            "slot_2": "filled",
            **slot(2, "b", enabled=False),
            "slot_3": {"slot_3": "filled", **slot(3, "None"), "slot_4": {**slot(4, "d")}},
        },
    }
    assert fixed_entries(values) == [LoraEntry("a", 0.1, 1.0), LoraEntry("d", 0.4, 1.0)]


def test_random_slots_have_a_clip_range_of_their_own_or_none():
    bounds = {"min_model_strength_1": 0, "max_model_strength_1": 1, "precision_model_1": 0.1}
    clip = {
        "min_clip_strength_1": 0.2,
        "max_clip_strength_1": 0.4,
        "precision_clip_1": 0.05,
        "clip_1": "own range",
    }
    values = {"lora_name_1": "a", "lora_1_enabled": True, "chance_1": 0.5, **bounds}
    assert random_slots(values) == [RandomSlot(1, "a", Steps(0, 1, 0.1), None, 0.5)]
    assert random_slots({**values, "clip_1": clip}) == [
        RandomSlot(1, "a", Steps(0, 1, 0.1), Steps(0.2, 0.4, 0.05), 0.5)
    ]
    assert random_slots({**values, "lora_1_enabled": False}) == []
    assert random_slots({**values, "lora_name_1": "None"}) == []


# As the nodes of each pack build it: `lora_stack.extend([(name, weight, weight)])` and the like.
OTHERS = {
    "Efficiency": [("a.safetensors", 0.5, 0.25), ("sub\\b.safetensors", 1.0, 1.0)],
    "Comfyroll": [
        ("a.safetensors", 0.5, 0.25),
        ("None", 1.0, 1.0),
        ("sub\\b.safetensors", 1.0, 1.0),
    ],
    "Easy-Use": [["a.safetensors", 0.5, 0.25], ["sub\\b.safetensors", 1.0, 1.0]],
    "Lora-Manager": [("a.safetensors", "0.5", "0.25"), ("sub\\b.safetensors", 1.0, 1.0)],
    "dicts": [
        {"lora": "a.safetensors", "model_strength": 0.5, "clip_strength": 0.25},
        {"lora": "sub\\b.safetensors", "strength": 1.0},
    ],
    "a tuple": (("a.safetensors", 0.5, 0.25), ("sub\\b.safetensors", 1, 1)),
}


@pytest.mark.parametrize("pack", OTHERS)
def test_stacks_of_other_packs_are_taken_and_stay_as_they_are(pack):
    incoming = OTHERS[pack]
    before = copy.deepcopy(incoming)
    made = stacked(incoming, [LoraEntry("c", 0.1, 0.2)])
    assert made == [
        ("a.safetensors", 0.5, 0.25),
        ("sub\\b.safetensors", 1.0, 1.0),
        ("c", 0.1, 0.2),
    ]
    assert incoming == before
    assert made is not incoming
    assert all(type(item) is tuple for item in made)


def test_nothing_in_and_nothing_chosen_is_an_empty_stack():
    assert stacked(None, []) == []

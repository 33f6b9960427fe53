from __future__ import annotations

from luna_collection.utils.slots import read_slots


def test_slots_are_found_however_deep_they_lie():
    values = {
        "enabled": True,
        "lora_1": "a",
        "strength_1": 0.5,
        "slot_2": {
            "slot_2": "filled",
            "lora_2": "b",
            "slot_3": {"slot_3": "filled", "lora_3": "c", "slot_4": {"slot_4": "empty"}},
        },
    }
    assert read_slots(values) == {
        1: {"lora": "a", "strength": 0.5},
        2: {"slot": "filled", "lora": "b"},
        3: {"slot": "filled", "lora": "c"},
        4: {"slot": "empty"},
    }


def test_the_number_may_stand_anywhere_in_the_name():
    assert read_slots({"lora_10_enabled": True, "precision_model_2": 0.1}) == {
        2: {"precision_model": 0.1},
        10: {"lora_enabled": True},
    }


def test_what_has_no_number_or_two_is_no_slot():
    assert read_slots({"seed": 1, "a_1_2": 3}) == {}

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry, merge, read_stack, to_tuples

A = LoraEntry("a.safetensors", 0.5, 0.25)


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (None, ()),
        ([], ()),
        ([("a.safetensors", 0.5, 0.25)], (A,)),
        ((["a.safetensors", 0.5, 0.25],), (A,)),
        ([("a.safetensors", 0.5, 0.25, "1,0,1", {"more": 1})], (A,)),
        ([("a.safetensors", "0.5", 0.25)], (A,)),
        ([("a.safetensors", 1)], (LoraEntry("a.safetensors", 1.0, 1.0),)),
        ([("None", 1.0, 1.0), ("", 1.0, 1.0), (None, 1.0, 1.0), None], ()),
        ([{"lora": "a.safetensors", "strength": 2}], (LoraEntry("a.safetensors", 2.0, 2.0),)),
        ([{"name": "a.safetensors", "model_strength": 0.5, "clip_strength": 0.25}], (A,)),
        ([{"lora": "None", "strength": 1.0}], ()),
        ([{"lora": "a.safetensors", "strength": 1.0, "on": False}], ()),
        ([{"name": "a.safetensors", "strength": 0.5, "clipStrength": 0.25, "active": True}], (A,)),
        ([{"name": "a.safetensors", "strength": 0.5, "active": False}], ()),
        ([{"lora": "a.safetensors", "strength": 0.5, "strengthTwo": 0.25, "on": True}], (A,)),
        ([("a.safetensors", np.float32(0.5), np.float32(0.25))], (A,)),
        (["None", "", ("a.safetensors", 0.5, 0.25)], (A,)),
        ("None", ()),
        ("", ()),
        ([A], (A,)),
    ],
)
def test_the_forms_of_all_packs_are_read(value, entries):
    before = copy.deepcopy(value)
    assert read_stack(value) == entries
    assert value == before


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a.safetensors", "no LORA_STACK: 'a.safetensors'"),
        ([("b", 1.0, 1.0), ("a", "strong", 1.0)], r"Entry 2 .*'a'.*'strong' is no strength"),
        ([("a", float("nan"), 1.0)], "nan is no strength"),
        ([("a", True, 1.0)], "True is no strength"),
        ([("a",)], "no strength"),
        ([{"lora": "a"}], "no strength"),
        ([(3, 1.0, 1.0)], "its name is no text"),
        ([7], "Entry 1 .* 7, .*neither"),
        ([()], "neither"),
    ],
)
def test_what_is_no_lora_is_refused_by_its_place(value, said):
    with pytest.raises(InputError, match=said):
        read_stack(value)


names = st.text(min_size=1).filter(lambda text: text.strip().lower() not in ("", "none"))
strengths = st.floats(-20, 20)
entries = st.builds(LoraEntry, names.map(str.strip), strengths, strengths)


@given(st.lists(entries))
def test_what_is_written_is_read_back(stack):
    written = to_tuples(stack)
    assert read_stack(written) == tuple(stack)
    assert to_tuples(read_stack(written)) == written
    assert to_tuples(stack) is not written


@given(st.lists(entries), st.lists(entries))
def test_each_lora_is_there_once_and_the_last_word_counts(stack, tags):
    merged = merge(stack, tags)
    keys = [entry.name.lower() for entry in merged]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {entry.name.lower() for entry in (*stack, *tags)}
    for entry in merged:
        same = [other for other in (*stack, *tags) if other.name.lower() == entry.name.lower()]
        assert entry == same[-1]


def test_a_tag_beats_the_stack_and_takes_its_place():
    stack = [LoraEntry("A", 1, 1), LoraEntry("b", 2, 2)]
    assert merge(stack, [LoraEntry("a", 3, 3)]) == (LoraEntry("a", 3, 3), LoraEntry("b", 2, 2))

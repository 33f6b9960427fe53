from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.pool import (
    PoolEntry,
    as_tags,
    draw_from_pool,
    filter_by_tags,
    parse_pool,
    resolve_pool,
)
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.seeded_draw import Steps

TEXT = """
- name: styles/ink.safetensors
  weight_min: 0.6
  weight_max: 0.9
  chance: 0.5
  tags: [Style, ink]
- grain
- {name: kim, tags: "person, 1990"}
"""
KNOWN = ["styles\\ink.safetensors", "grain.safetensors", "people/kim.safetensors", "x/grain2.sft"]
WEIGHTS = Steps(0.5, 1.0, 0.1)
MANY = [PoolEntry(f"{n}.safetensors") for n in range(12)]
seeds = st.integers(0, 2**64 - 1)


def test_a_pool_file_is_read():
    assert parse_pool(TEXT, "p.yaml") == (
        PoolEntry("styles/ink.safetensors", 0.6, 0.9, 0.5, frozenset({"style", "ink"})),
        PoolEntry("grain"),
        PoolEntry("kim", tags=frozenset({"person", "1990"})),
    )


@pytest.mark.parametrize("name", ["2024-05-01", "2024-99-99", "1_000", "yes", "0.5", "v1: b"])
def test_a_name_that_yaml_takes_for_something_else_is_a_name(name):
    written = f"'{name}'" if ":" in name else name
    assert parse_pool(f"- name: {written}\n- {written}", "p.yaml") == (PoolEntry(name),) * 2


def test_an_empty_file_is_an_empty_pool():
    assert parse_pool("# nothing yet\n", "p.yaml") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "'p.yaml' cannot be read: line 1"),
        ("a: 1", "'p.yaml' is not a list"),
        ("- []", "'p.yaml', line 1: an entry is a name or a table"),
        ("- a\n-\n", "'p.yaml', line 2: an entry is a name or a table"),
        ("- a\n- {weight_min: 1}", "'p.yaml', line 2: the entry has no name"),
        ("- a\n- name:\n  chance: 1", "'p.yaml', line 2: the entry has no name"),
        (
            "- name: a\n  wieght: 1",
            "line 2: there is no field 'wieght'; the fields are name, weight",
        ),
        ("- name: a\n\n  chance: 2", "line 3: chance is 2"),
        ("- name: a\n  weight_min: much", "line 2: weight_min is 'much'"),
        ("- name: a\n  weight_min: 0,5", "line 2: weight_min is '0,5'"),
        ("- {name: a, weight_min: .nan}", "weight_min"),
        ("- {name: a, weight_max: true}", "weight_max is 'true'"),
        ("- name: a\n  weight_max: [1]", "line 2: weight_max"),
        ("- {name: a, tags: {b: 1}}", "tags"),
        ("- {name: a, tags: [b, [c]]}", "tags"),
        ("- name: a\n  name: b", "line 2: 'name' is there twice"),
        ("- !!python/object/apply:os.system [echo]", "line 1: an entry is a name or a table"),
        ("[" * 3000, "'p.yaml' cannot be read: "),
        ("- a\x00b", "'p.yaml' cannot be read: "),
    ],
)
def test_what_is_no_pool_is_refused_with_its_place(text, said):
    with pytest.raises(InputError) as caught:
        parse_pool(text, "p.yaml")
    assert said in str(caught.value)


def test_names_are_those_of_files_and_each_file_is_there_once():
    entries = [PoolEntry("INK", 0.1), PoolEntry("kim"), PoolEntry("styles/ink", 0.2)]
    assert resolve_pool(entries, KNOWN) == (
        PoolEntry("styles\\ink.safetensors", 0.1),
        PoolEntry("people/kim.safetensors"),
    )
    with pytest.raises(InputError, match=r"^There is no LoRA 'nobody'"):
        resolve_pool([PoolEntry("nobody")], KNOWN)
    for text in ("- kim\n- nobody", "- kim\n-\n  name: nobody"):
        with pytest.raises(InputError, match=r"'p.yaml', line [23]: There is no LoRA 'nobody'"):
            resolve_pool(parse_pool(text, "p.yaml"), KNOWN)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ("", ["styles/ink.safetensors", "grain", "kim"]),
        ("STYLE", ["styles/ink.safetensors"]),
        ("ink, person", ["styles/ink.safetensors", "kim"]),
        ("-ink", ["grain", "kim"]),
        ("style, -ink", []),
        ("person, -ink", ["kim"]),
    ],
)
def test_tags_filter(wanted, kept):
    assert [entry.name for entry in filter_by_tags(parse_pool(TEXT, "p"), wanted)] == kept


@given(seeds, st.integers(0, 15))
def test_a_draw_has_no_lora_twice_and_is_repeatable(seed, count):
    drawn = draw_from_pool(MANY, count, WEIGHTS, seed)
    assert drawn == draw_from_pool(MANY, count, WEIGHTS, seed)
    assert len({entry.name for entry in drawn}) == len(drawn) == min(count, len(MANY))
    assert all(0.5 <= entry.model_strength <= 1.0 for entry in drawn)


@given(seeds)
def test_a_platforms_separator_changes_nothing(seed):
    linux = draw_from_pool([PoolEntry("a/b.sft"), PoolEntry("c.sft")], 1, WEIGHTS, seed)
    windows = draw_from_pool([PoolEntry("a\\b.sft"), PoolEntry("c.sft")], 1, WEIGHTS, seed)
    assert [(e.name.replace("\\", "/"), e.model_strength) for e in windows] == [
        (e.name, e.model_strength) for e in linux
    ]


@given(seeds)
def test_an_entrys_own_bounds_come_before_those_of_the_draw(seed):
    (drawn,) = draw_from_pool([PoolEntry("a", 2.0, 2.0)], 1, WEIGHTS, seed)
    assert drawn.model_strength == 2.0


def test_an_entry_without_a_chance_to_win_is_never_drawn():
    entries = [PoolEntry("a", chance=0.0), PoolEntry("b")]
    assert {e.name for s in range(50) for e in draw_from_pool(entries, 2, WEIGHTS, s)} == {"b"}


def test_tags_are_written_as_short_as_is_clear():
    known = ["a/ink.safetensors", "b\\ink.safetensors", "x/grain.v2.safetensors"]
    entries = [
        LoraEntry("a/ink.safetensors", 0.8, 0.8),
        LoraEntry("b\\ink.safetensors", -0.5, 0.25),
        LoraEntry("x/grain.v2.safetensors", 0.125, 0.125),
    ]
    assert as_tags(entries, known) == (
        "<lora:a/ink:0.80> <lora:b/ink:-0.50:0.25> <lora:grain.v2:0.125>"
    )
    assert as_tags([], known) == ""

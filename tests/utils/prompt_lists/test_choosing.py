from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.prompt_lists.choosing import (
    Chosen,
    at_index,
    first_open,
    is_saved,
    picture_names,
    seed_for,
)
from luna_collection.utils.prompt_lists.entry import PromptEntry
from luna_collection.utils.prompt_lists.lora_modes import LoraOutput, place_loras
from luna_collection.utils.prompts.lora_tags import take_tags

KNOWN = [
    "styles/ink.safetensors",
    "film.safetensors",
    "one/same.safetensors",
    "two/same.safetensors",
]


@pytest.mark.parametrize(
    ("index", "chosen"),
    [(0, Chosen(0, 3, False)), (2, Chosen(2, 3, True)), (7, Chosen(1, 3, False))],
)
def test_an_index_goes_round(index, chosen):
    assert at_index(index, 3) == chosen


@given(done=st.lists(st.booleans(), min_size=1, max_size=8), index=st.integers(0, 20))
def test_runs_with_a_rising_index_do_each_open_entry_once(done, index):
    open_before = {place for place, is_done in enumerate(done) if not is_done}
    made = []
    for step in range(len(done) + 1):
        chosen = first_open(index + step, done)
        if chosen.index < 0:
            assert chosen.complete
            break
        assert not done[chosen.index]
        assert chosen.complete == (done.count(False) == 1)
        done[chosen.index] = True
        made.append(chosen.index)
    assert sorted(made) == sorted(open_before)


@given(st.lists(st.text("aA./\\:%_0 é", max_size=6), min_size=1, max_size=8))
def test_no_two_pictures_have_one_name(names):
    made = picture_names([PromptEntry("x", name=name) for name in names])
    assert len({name.lower() for name in made}) == len(names)
    for name in made:
        assert name
        assert not set(name) & set('<>:"/\\|?*%')
        assert name == name.strip(". ")


def test_a_picture_is_called_by_its_entry():
    entries = [PromptEntry("x", name=name) for name in ("a/one.png", "", "two", "two.jpg", "v1.5")]
    assert picture_names(entries) == ["one", "00001", "two_00002", "two_00003", "v1.5"]


@pytest.mark.parametrize(
    ("file", "saved"),
    [
        ("cat.png", True),
        ("cat_00001_.png", True),
        ("CAT_2.webp", True),
        ("cats.png", False),
        ("cat_big_00001_.png", False),
        ("cat", False),
    ],
)
def test_which_files_are_the_picture_of_an_entry(file, saved):
    assert is_saved("cat", [file]) is saved


def test_seeds():
    assert seed_for(PromptEntry("x", seed=0), 3, -1) == 0
    assert seed_for(PromptEntry("x", seed=5), 3, 9) == 5
    assert len({seed_for(PromptEntry("x"), 3, -1) for _ in range(20)}) > 1
    drawn = [seed_for(PromptEntry("x"), place, 9) for place in range(20)]
    assert drawn == [seed_for(PromptEntry("x"), place, 9) for place in range(20)]
    assert len(set(drawn)) == 20


def test_loras_go_where_they_are_wanted():
    entry = PromptEntry("a <lora:ink:0.5> cat", loras=(LoraEntry("film", 1.0, 0.6),))
    stack = place_loras(entry, KNOWN, LoraOutput.STACK_ONLY, False)
    assert "<lora" not in stack.positive
    assert stack.stack == (
        LoraEntry("film.safetensors", 1.0, 0.6),
        LoraEntry("styles/ink.safetensors", 0.5, 0.5),
    )
    inline = place_loras(entry, KNOWN, LoraOutput.INLINE_ONLY, False)
    assert inline.stack == ()
    assert inline.positive.endswith(" <lora:film:1.00:0.60> <lora:ink:0.50>")
    both = place_loras(entry, KNOWN, LoraOutput.BOTH, False)
    assert (both.positive, both.stack) == (inline.positive, stack.stack)


def test_a_tag_beats_the_list_beside_it():
    entry = PromptEntry("<lora:ink:0.5>", loras=(LoraEntry("INK.safetensors", 1.0, 1.0),))
    placed = place_loras(entry, KNOWN, LoraOutput.STACK_ONLY, False)
    assert placed.stack == (LoraEntry("styles/ink.safetensors", 0.5, 0.5),)


def test_what_is_not_there_is_left_out_only_when_wanted_and_said():
    entry = PromptEntry("x", loras=(LoraEntry("gone", 1.0, 1.0), LoraEntry("same", 1.0, 1.0)))
    every = place_loras(entry, KNOWN, LoraOutput.STACK_ONLY, False)
    assert [lora.name for lora in every.stack] == ["gone", "same"]
    existing = place_loras(entry, KNOWN, LoraOutput.STACK_ONLY, True)
    assert existing.stack == ()
    assert "'gone' is left out. There is no LoRA 'gone'." in existing.notes[0]
    assert "fits 2 files" in existing.notes[1]


def test_block_weights_survive_in_the_prompt_and_are_missed_in_a_stack():
    entry = PromptEntry("x <lora:ink:0.5:0.5:LBW=1,0,1;A=0.5>")
    inline = place_loras(entry, KNOWN, LoraOutput.INLINE_ONLY, False).positive
    (again,) = take_tags(inline).loras
    assert (again.model_strength, again.block_weights) == (0.5, "1,0,1;A=0.5")
    assert "block weights" in place_loras(entry, KNOWN, LoraOutput.STACK_ONLY, False).notes[0]


def test_a_prompt_without_tags_stays_as_it_is():
    text = "a  cat ,\n<b>  "
    assert place_loras(PromptEntry(text), KNOWN, LoraOutput.STACK_ONLY, True).positive == text


def test_a_tag_that_cannot_be_read_is_an_error():
    with pytest.raises(InputError, match="<lora:ink:many>"):
        place_loras(PromptEntry("<lora:ink:many>"), KNOWN, LoraOutput.BOTH, False)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.loras.trigger_injection import (
    Injection,
    InjectionMode,
    has_phrase,
    inject,
    words_to_add,
)
from luna_collection.utils.loras.trigger_sets import TriggerSet

words = st.text("abAB _", min_size=1, max_size=4).filter(lambda text: text.strip(" _"))


def sets(*listed):
    return [TriggerSet("s", tuple(listed))]


def test_words_go_before_or_behind_the_prompt_or_nowhere():
    for mode, result in (
        (InjectionMode.PREPEND, "x, y, a cat"),
        (InjectionMode.APPEND, "a cat, x, y"),
        (InjectionMode.NONE, "a cat, "),
    ):
        assert inject("a cat, ", ("x", "y"), Injection(mode)) == result
    assert inject("", ("x",), Injection()) == "x"
    assert inject("a cat, ", (), Injection()) == "a cat, "
    assert inject("a", ("x", "y"), Injection(separator=" | ")) == "a | x | y"


def test_words_of_the_prompt_are_left_out_in_any_case_and_with_weights():
    prompt = "Photo of (OHWX Woman:1.2), red_hair, armored \\(suit\\)"
    of_loras = [sets("ohwx woman", "red hair", "armor", "suit", "new")]
    assert words_to_add(prompt, of_loras, Injection()) == ("armor", "new")


def test_words_of_an_earlier_lora_are_left_out_and_do_not_count():
    of_loras = [sets("a", "b", "c"), sets("B", "d", "e", "f")]
    assert words_to_add("", of_loras, Injection(most=2)) == ("a", "b", "d", "e")


def test_without_deduplication_everything_is_added():
    of_loras = [sets("a"), sets("A")]
    assert words_to_add("a", of_loras, Injection(deduplicate=False)) == ("a", "A")


@given(st.text("abAB _,", max_size=12), st.lists(st.lists(words, max_size=4), max_size=4))
def test_injecting_twice_adds_nothing_the_second_time(prompt, listed):
    of_loras = [sets(*each) for each in listed]
    how = Injection(most=50)
    once = inject(prompt, words_to_add(prompt, of_loras, how), how)
    assert words_to_add(once, of_loras, how) == ()


@given(st.lists(st.lists(words, max_size=9), max_size=4), st.integers(1, 5))
def test_no_lora_adds_more_than_it_may(listed, most):
    added = words_to_add("", [sets(*each) for each in listed], Injection(most=most))
    assert len(added) <= most * len(listed)
    plain = [" ".join(word.replace("_", " ").casefold().split()) for word in added]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize(
    ("prompt", "phrase", "there"),
    [
        ("catwoman", "cat", False),
        ("cat-woman", "cat", True),
        ("c++ code", "c++", True),
        ("a  b", "A B", True),
        ("", "a", False),
        ("a", " ", False),
    ],
)
def test_a_phrase_is_found_as_whole_words(prompt, phrase, there):
    assert has_phrase(prompt, phrase) is there

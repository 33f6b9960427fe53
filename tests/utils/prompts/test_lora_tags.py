from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.prompts.lora_tags import take_tags


@pytest.mark.parametrize(
    ("tag", "entry"),
    [
        ("<lora:ink>", LoraEntry("ink", 1.0, 1.0)),
        ("<lora:ink:0.8>", LoraEntry("ink", 0.8, 0.8)),
        ("<lora:ink:0.8:0.6>", LoraEntry("ink", 0.8, 0.6)),
        ("<LoRA:ink:.5:-1>", LoraEntry("ink", 0.5, -1.0)),
        ("<lora:ink:-1.5e-1:+2.>", LoraEntry("ink", -0.15, 2.0)),
        ("<lora: my ink v1.2 : 1 >", LoraEntry("my ink v1.2", 1.0, 1.0)),
        ("<lora:a/b\\c.d.safetensors:1>", LoraEntry("a/b\\c.d.safetensors", 1.0, 1.0)),
        ("<lora:ink:1:LBW=1, 0,A,B;A=0.5;B=-1;>", LoraEntry("ink", 1, 1, "1,0,A,B;A=0.5;B=-1")),
        ("<lora:ink:1:0.5:lbw=MIDD>", LoraEntry("ink", 1.0, 0.5, "MIDD")),
        ("<lora:ink:unet=0.7:te=0.2:lbw=IN04:0.5>", LoraEntry("ink", 0.7, 0.2, "IN04:0.5")),
        (
            "<lora:ink:1:lbw=base:0, IN04:0.5,MID:1:te=0>",
            LoraEntry("ink", 1, 0, "base:0,IN04:0.5,MID:1"),
        ),
        ("<lora:ink:1:lbw=IN04=0.5,OUT03=1>", LoraEntry("ink", 1, 1, "IN04=0.5,OUT03=1")),
        # The three examples of Impact's own manual.
        (
            "<lora:chunli:1.0:1.0:LBW=B11:0,0,0,0,0,0,0,0,0,0,A,0,0,0,0,0,0;A=0.;>",
            LoraEntry("chunli", 1, 1, "0,0,0,0,0,0,0,0,0,0,A,0,0,0,0,0,0;A=0."),
        ),
        (
            "<lora:chunli:1.0:1.0:LBW=0,0,0,0,0,0,0,0,0,0,A,B,0,0,0,0,0;A=0.5;B=0.2;>",
            LoraEntry("chunli", 1, 1, "0,0,0,0,0,0,0,0,0,0,A,B,0,0,0,0,0;A=0.5;B=0.2"),
        ),
        ("<lora:chunli:1.0:1.0:LBW=SD-MIDD;>", LoraEntry("chunli", 1, 1, "SD-MIDD")),
        ("<lora:ink:unet=0.7:te=0.2:lbw=INS>", LoraEntry("ink", 0.7, 0.2, "INS")),
        ("<lora:ink:0.7:te=0>", LoraEntry("ink", 0.7, 0.0)),
        ("<lora:ink::0.5>", LoraEntry("ink", 0.5, 0.5)),
        ("<lyco:ink:0.5>", LoraEntry("ink", 0.5, 0.5)),
    ],
)
def test_the_forms_of_a_tag(tag, entry):
    assert take_tags(tag).loras == (entry,)
    assert take_tags(f"a {tag} b").text == "a b"


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("<lora:>", "names no LoRA"),
        ("<lora::1>", "names no LoRA"),
        ("<lora:ink:strong>", "'strong' is no weight"),
        ("<lora:ink:1:1:1>", "3 weights"),
        ("<lora:ink:1e999>", "'1e999' is no weight"),
        ("<lora:ink:nan>", "'nan' is no weight"),
        ("<lora:ink:1:speed=3>", "'speed=3' is no weight"),
        ("<lora:ink:1:lbw=MIDD:soft>", "'soft' is no weight"),
    ],
)
def test_what_cannot_be_read_is_refused_and_shown(tag, said):
    with pytest.raises(InputError, match=said) as refused:
        take_tags(f"a, {tag}, b")
    assert tag in refused.value.message


def test_what_is_not_followed_is_said():
    taken = take_tags("<lora:ink:1:stop=10> <lora:oil:1:LBW=ALL;LOADER=x>")
    assert [entry.name for entry in taken.loras] == ["ink", "oil"]
    assert taken.notes == (
        "<lora:ink:1:stop=10>: 'stop=10' is not followed.",
        "<lora:oil:1:LBW=ALL;LOADER=x>: 'LOADER=x' is not followed.",
    )


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a fox, <lora:x:1>, red", "a fox, red"),
        ("a fox <lora:x:1> red", "a fox red"),
        ("a fox,<lora:x:1>,red", "a fox,red"),
        ("a fox<lora:x:1>, red", "a fox, red"),
        ("fox<lora:x:1>red", "fox red"),
        ("<lora:x:1>, a fox", "a fox"),
        ("<lora:x:1> a fox", "a fox"),
        ("a fox, <lora:x:1>", "a fox"),
        ("a fox, <lora:x:1>,", "a fox,"),
        ("a fox <lora:x:1><lora:y:1>, <lora:z:1>", "a fox"),
        ("<lora:x:1>", ""),
        (" <lora:x:1> ", ""),
        ("a, <lora:x:1>\nb", "a,\nb"),
        ("a\n<lora:x:1>\nb", "a\n\nb"),
        ("a\r\n<lora:x:1>, b", "a\r\nb"),
        ("(a, <lora:x:1>:1.2)", "(a:1.2)"),
        ("(<lora:x:1> a:1.2)", "(a:1.2)"),
        ("(a <lora:x:1>)", "(a)"),
        ("(a, <lora:x:1>), b", "(a), b"),
        ("a, (<lora:x:1>:1.2), b", "a, b"),
        ("a, ((<lora:x:1>)), b", "a, b"),
        ("\\(<lora:x:1>\\)", "\\(\\)"),
        ("{a|<lora:x:1>}", "{a|}"),
        ("{<lora:x:1>|b}", "{|b}"),
        ("__hair__, <lora:x:1> BREAK b", "__hair__, BREAK b"),
        ("a BREAK <lora:x:1> b", "a BREAK b"),
        ("odd ,, own   text <lora:x:1>", "odd ,, own   text"),
    ],
)
def test_a_tag_leaves_no_gap_and_takes_nothing_else(prompt, left):
    assert take_tags(prompt).text == left


WORDS = st.sampled_from(
    [
        "a fox",
        "(red:1.2)",
        "[old]",
        "\\(fish\\)",
        "BREAK",
        "__hair__",
        "{a|b}",
        "1girl",
        "embedding:x",
    ]
)
TAGS = st.sampled_from(["<lora:x:1>", "<lora:a/b c.d:-1e-1:2>", "<lora:y:1:LBW=1,0;>"])


@given(st.text())
def test_a_prompt_without_tags_stays_as_it_is(text):
    text = re.sub("<lora:", "", text, flags=re.IGNORECASE)
    assert take_tags(text).text == text


@given(st.lists(st.one_of(WORDS, TAGS)))
def test_a_list_with_tags_becomes_the_list_without_them(parts):
    words = [part for part in parts if not part.startswith("<lora:")]
    for between in (", ", ",", " ", " , "):
        taken = take_tags(between.join(parts))
        assert len(taken.loras) == len(parts) - len(words)
        plain = [word.strip() for word in between.join(words).split(",")]
        assert [word.strip() for word in taken.text.split(",")] == plain
        if len(words) < len(parts):
            assert "  " not in taken.text.replace(between, "")
            assert ",," not in taken.text.replace(" ", "")


@given(st.text(alphabet=st.characters(blacklist_characters="<>:", blacklist_categories=["Cs"])))
def test_any_name_without_colons_and_brackets_is_a_name(name):
    if name.strip():
        assert take_tags(f"<lora:{name}:0.5>").loras == (LoraEntry(name.strip(), 0.5, 0.5),)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_numbers_are_read_as_they_are_written(model, clip):
    assert take_tags(f"<lora:x:{model!r}:{clip!r}>").loras == (LoraEntry("x", model, clip),)

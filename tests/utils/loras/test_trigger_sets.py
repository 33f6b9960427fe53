"""Where trigger words are read from, in every form that tools write."""

from __future__ import annotations

import json

import pytest
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.loras.trigger_sets import (
    TriggerSet,
    choose_sets,
    header_triggers,
    read_triggers,
    split_words,
)

from .lora_files import layer, write_lora

TAGS = {
    "ss_tag_frequency": json.dumps({"1_a": {"red hair": 3, "1girl": 9}, "2_b": {"red hair": 7}})
}
PHRASE = {"modelspec.trigger_phrase": "ohwx woman, ohwx"}
SIDECARS = {
    "kim.civitai.json": {"trainedWords": ["kim, red coat", "kim armor"]},
    "kim.civitai.info": {"id": 1, "trainedWords": ["kim, red coat", "kim armor"]},
    "kim.metadata.json": {"civitai": {"trainedWords": ["kim, red coat", "kim armor"]}},
    "kim.cm-info.json": {"TrainedWords": ["kim, red coat", "kim armor"]},
    "kim.safetensors.rgthree-info.json": {
        "trainedWords": [{"word": "kim, red coat", "civitai": True}, {"word": "kim armor"}]
    },
}


@pytest.fixture
def lora(tmp_path):
    return write_lora(tmp_path / "kim.safetensors", layer("lora_unet_a"), {**TAGS, **PHRASE})


def beside(lora, name, content):
    (lora.parent / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("name", SIDECARS)
def test_civitais_words_are_read_from_every_tools_file(lora, name):
    beside(lora, name, SIDECARS[name])
    found = read_triggers(lora)
    assert found.source == name
    assert found.sets == (
        TriggerSet("kim", ("kim", "red coat")),
        TriggerSet("kim armor", ("kim armor",)),
    )


def test_words_of_automatic1111_and_swarm_are_read(lora):
    beside(lora, "kim.swarm.json", {"modelspec.trigger_phrase": "swarm kim"})
    assert read_triggers(lora).sets == (TriggerSet("swarm kim", ("swarm kim",)),)
    beside(lora, "kim.json", {"activation text": "kim, coat", "preferred weight": 0.8})
    assert read_triggers(lora).sets == (TriggerSet("kim", ("kim", "coat")),)


def test_sets_may_have_names_of_ones_own(lora):
    beside(
        lora,
        "kim.json",
        {"trigger_sets": {"winter": "coat, scarf", "empty": "", "armor": ["a", "b"]}},
    )
    beside(lora, "kim.civitai.json", SIDECARS["kim.civitai.json"])
    found = read_triggers(lora)
    assert found.sets == (TriggerSet("winter", ("coat", "scarf")), TriggerSet("armor", ("a", "b")))


def test_the_header_is_asked_in_its_order(tmp_path):
    plain = {"trigger_words": "last, resort"}
    for number, (metadata, source, words) in enumerate(
        [
            ({**TAGS, **PHRASE, **plain}, "modelspec.trigger_phrase", ("ohwx woman", "ohwx")),
            ({**TAGS, **plain}, "ss_tag_frequency", ("red hair", "1girl")),
            (plain, "header", ("last", "resort")),
            ({"activation_text": '["x", "y"]'}, "header", ("x",)),
        ]
    ):
        lora = write_lora(tmp_path / f"{number}.safetensors", layer("a"), metadata)
        found = read_triggers(lora)
        assert (found.source, found.sets[0].words) == (source, words)


def test_of_training_tags_the_ten_most_frequent_count():
    counts = {f"t{n:02}": n for n in range(30)}
    _, (found,) = header_triggers({"ss_tag_frequency": json.dumps({"a": counts})})
    assert found.words == tuple(f"t{n:02}" for n in range(29, 19, -1))


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"b": "c"}}', "null", ""])
def test_odd_training_tags_are_none(text):
    assert header_triggers({"ss_tag_frequency": text}) == ("", ())


@pytest.mark.parametrize(
    "content", ["{", "[1]", "\xff", '{"trainedWords": 3}', '{"trainedWords": [null]}', "{}"]
)
def test_a_sidecar_without_words_or_sense_hides_no_other_source(lora, content):
    beside(lora, "kim.civitai.json", content)
    found = read_triggers(lora)
    assert found.source == "modelspec.trigger_phrase"
    assert len(found.problems) == (not content.startswith("{") or content == "{")
    assert all("kim.civitai.json" in problem for problem in found.problems)


def test_a_damaged_lora_is_an_error_only_where_it_is_needed(lora):
    lora.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="damaged"):
        read_triggers(lora)
    beside(lora, "kim.civitai.json", SIDECARS["kim.civitai.json"])
    assert read_triggers(lora).sets


def test_a_file_that_is_not_safetensors_has_sidecars_only(tmp_path):
    lora = tmp_path / "old.pt"
    lora.write_bytes(b"anything")
    assert read_triggers(lora).sets == ()
    beside(lora, "old.civitai.info", {"trainedWords": ["old"]})
    assert read_triggers(lora).sets == (TriggerSet("old", ("old",)),)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ([], ["winter", "armor"]),
        ([""], ["winter", "armor"]),
        (["ARMOR"], ["armor"]),
        (["2", "winter"], ["winter", "armor"]),
        (["beach"], ["winter"]),
    ],
)
def test_sets_are_chosen_by_name_or_number(wanted, names):
    sets = (TriggerSet("winter", ("coat",)), TriggerSet("armor", ("plate",)))
    assert [each.name for each in choose_sets(sets, wanted)] == names


def test_words_are_split_at_commas_and_lines():
    assert split_words(" a  b ,c,, a b\nd") == ("a b", "c", "d")


def test_tags_among_the_words_are_none(lora):
    assert split_words("<lora:kim_v1:0.8> kim, coat <LYCO:x:1>red") == ("kim", "coat", "red")
    beside(lora, "kim.civitai.info", {"trainedWords": ["<lora:kim:1>", "kim <lora:kim:1>"]})
    assert read_triggers(lora).sets == (TriggerSet("kim", ("kim",)),)

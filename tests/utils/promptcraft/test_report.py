"""What is said about a prompt, and which folders and LoRAs are meant."""

from __future__ import annotations

import json

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.promptcraft import CraftLibrary, Settings, craft, seed_of
from luna_collection.utils.promptcraft.lora_links import as_stack
from luna_collection.utils.promptcraft.report import as_data, as_json, formatted, shown
from luna_collection.utils.wildcards.places import chosen_folders

INLINE = """
hats:
  - {value: cap, tags: [blue], payload: P}
hats.lora:
  blue: {loras: [{name: ink, priority: 1, trigger: inky}, {name: gone, clip_weight: 0.5}], embeddings: [e]}
hats.expander: {more: {paths: [hats], values: [shiny]}}
"""


def crafted(template: str = "{hats} {nothing}", settings: Settings | None = None):
    return craft(template, 0, CraftLibrary(inline=INLINE), settings)


def test_the_data_has_everything():
    data = as_data(crafted(), "here")
    assert list(data) == [
        "seed", "wildcards_path", "picks", "paths", "tags", "expansions", "loras", "embeddings",
        "trigger_words", "payloads", "warnings", "settings",
    ]  # fmt: skip
    assert data["picks"][0]["source"] == "inline data:3"
    assert data["seed"] == 0
    assert (data["paths"], data["tags"], data["expansions"]) == (["hats"], ["blue"], ["shiny"])
    assert data["embeddings"] == [{"name": "e", "weight": 1.0}]
    assert data["trigger_words"] == ["inky"]
    assert data["payloads"] == ["P"]
    assert json.loads(as_json(crafted(), "here")) == data


def test_people_see_what_is_switched_on():
    text = as_json(crafted(), "")
    everything = formatted(text)
    for part in (
        "hats: cap",
        "shiny",
        "Tags: blue",
        "ink (1, 1)",
        "gone (1, 0.5)",
        "inky",
        "P",
        "{nothing}",
    ):
        assert part in everything
    assert "constraints: on" in everything
    little = formatted(text, paths=False, tags=False, loras=False)
    assert "  cap" in little
    assert not any(part in little for part in ("hats: cap", "Tags", "ink ("))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "[]",
        '{"picks": 1}',
        '{"picks": [1]}',
        '{"picks": [], "loras": [{}]}',
        "[" * 99_999,
    ],
)
def test_something_else_is_refused(text):
    with pytest.raises(InputError, match="no debug output"):
        formatted(text)


def test_the_node_shows_warnings_below_the_prompt():
    assert shown(crafted("{hats}")) == crafted("{hats}").prompt
    assert shown(crafted()).startswith(crafted().prompt + "\n\nWarnings:\n")


def test_loras_get_the_names_of_their_files_and_missing_ones_are_said():
    stack, remarks = as_stack(crafted().linked.loras, ["style/ink.safetensors"])
    assert stack == [("style/ink.safetensors", 1.0, 1.0), ("gone", 1.0, 0.5)]
    assert len(remarks) == 1
    assert "'gone'" in str(remarks[0])


def test_minus_one_is_chosen_and_every_other_number_is_itself():
    assert [seed_of(0), seed_of(2**64 - 1)] == [0, 2**64 - 1]
    assert len({seed_of(-1) for _ in range(20)}) == 20
    assert all(0 <= seed_of(-1) < 2**53 for _ in range(20))


def test_only_folders_for_wildcards_are_read(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one / "sub", two, tmp_path / "secret"):
        folder.mkdir(parents=True)
    roots = [one, str(two), tmp_path / "missing"]
    assert chosen_folders(roots, " ") == (one, two, tmp_path / "missing")
    assert chosen_folders(roots, "sub") == (one / "sub",)
    assert chosen_folders(roots, str(two)) == (two,)
    for name in (
        "../secret",
        str(tmp_path),
        str(tmp_path / "secret"),
        "nowhere",
        "/",
        "sub/../../secret",
    ):
        with pytest.raises(InputError, match="no folder for wildcards"):
            chosen_folders(roots, name)

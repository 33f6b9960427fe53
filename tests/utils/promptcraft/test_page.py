"""The page about PromptCraft is true: its examples are files, and do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from luna_collection.utils.promptcraft import CraftLibrary, craft

PAGE = Path(__file__).resolve().parents[3] / "docs" / "promptcraft.md"
FILES = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def library(tmp_path):
    for name, text in FILES:
        (tmp_path / name).write_text(text, "utf-8")
    return CraftLibrary([tmp_path])


def test_the_page_has_an_example_of_each_kind():
    kinds = {"", "constraint", "modifier", "expander", "lora", "chain", "tags"}
    assert {name.split(".")[1].replace("yaml", "") for name, _ in FILES} == kinds


def test_nothing_in_the_examples_is_remarked_on(library):
    for seed in range(100):
        assert craft("{scene}", seed, library).warnings == ()


def test_the_examples_do_what_the_page_says(library):
    rainy = sunny = expanded = 0
    for seed in range(300):
        crafted = craft("{scene}", seed, library)
        weather, hat = crafted.picks[0], crafted.picks[1]
        assert crafted.prompt.startswith(f"{weather.text}, wearing a {hat.text}")
        if weather.item.id == "rain":
            rainy += 1
            assert hat.item.path == ("wool",)
            assert hat.modifier in ("soaked", "dripping")
            assert crafted.prompt.endswith(", wet look, (embedding:drops:0.9)")
            assert [lora.name for lora in crafted.linked.loras] == ["rain_style"]
            expanded += bool(crafted.expansions)
        else:
            sunny += 1
            assert hat.item.path == ("straw",)
            assert "summer" in crafted.tags
            assert crafted.payloads == ("<lora:sun:0.5>",)
            assert not crafted.expansions
            assert "{" not in crafted.prompt
    assert 2 < rainy / sunny < 4.5
    assert 0.35 < expanded / rainy < 0.65

"""The page about lists of prompts is true: its examples are files, and say the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.prompt_lists.entry import PromptEntry
from luna_collection.utils.prompt_lists.reading import read_list

PAGE = Path(__file__).resolve().parents[3] / "docs" / "prompt_lists.md"
FILES = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_page_has_an_example_of_each_format():
    assert [ending for ending, _ in FILES] == ["csv", "json", "jsonl", "yaml"]


@pytest.mark.parametrize(("ending", "text"), FILES, ids=[ending for ending, _ in FILES])
def test_an_example_says_what_the_others_say(ending, text):
    entries = read_list(text.encode(), f"a.{ending}").entries
    plain = [replace(entry, line=0, name=entry.name.removesuffix(".png")) for entry in entries]
    loras = (LoraEntry("ink", 0.8, 0.8), LoraEntry("film", 1.0, 0.5))
    assert plain == [
        PromptEntry("a cat, watercolour", "blurry", loras, 5, 832, 1216, "cat"),
        PromptEntry("an owl at night", name="owl"),
    ]

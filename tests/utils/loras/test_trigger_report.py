from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.loras.trigger_report import triggers_of_stack
from luna_collection.utils.loras.trigger_sets import TriggerSet

from .lora_files import layer, write_lora


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lora(tmp_path / "kim.safetensors", layer("a"), {"modelspec.trigger_phrase": "header kim"})
    (tmp_path / "kim.civitai.info").write_text('{"trainedWords": ["kim, coat", "kim armor"]}')
    (tmp_path / "kim.json").write_text("{")
    write_lora(tmp_path / "plain.safetensors", layer("a"))
    return tmp_path


def test_sets_are_told_with_what_is_used_and_what_could_not_be_read(folder):
    entries = [LoraEntry("kim.safetensors", 1, 0), LoraEntry("plain.safetensors", 0, 0.5)]
    sets, report = triggers_of_stack(entries, "kim armor", lambda name: folder / name)
    assert sets == [(TriggerSet("kim armor", ("kim armor",)),), ()]
    assert report.splitlines() == [
        "kim.safetensors: from kim.civitai.info",
        "  1 kim (not used): kim, coat",
        "  2 kim armor (used): kim armor",
        "  'kim.json' is not valid JSON. Correct it, or delete it and fetch it again.",
        "plain.safetensors: no trigger words found",
    ]


def test_a_lora_without_strength_is_not_even_looked_for(folder):
    def nowhere(name: str) -> Path:
        raise AssertionError(name)

    sets, report = triggers_of_stack([LoraEntry("x", 0.0, 0.0)], "", nowhere)
    assert (sets, report) == ([], "x: strength 0, left out")


def test_a_lora_that_is_missing_is_an_error(folder):
    def missing(name: str) -> Path:
        raise InputError(f"There is no LoRA '{name}'.")

    with pytest.raises(InputError, match="'gone'"):
        triggers_of_stack([LoraEntry("gone", 1.0, 1.0)], "", missing)

"""Names of files that were written on another system."""

from __future__ import annotations

import json
import os

import pytest
from luna_collection.utils.file_names import FileNames, spellings

NAMES = FileNames([os.path.join("SDXL", "base.safetensors"), "plain.safetensors"])


@pytest.mark.parametrize("name", ["SDXL/base.safetensors", "SDXL\\base.safetensors", *NAMES])
def test_a_name_is_found_with_either_separator(name):
    assert name in NAMES
    assert any(spelled in list(NAMES) for spelled in spellings(name))


@pytest.mark.parametrize("name", ["base.safetensors", "SDXL", "SDXL/", "", None, 3, ["SDXL"]])
def test_other_values_are_not(name):
    assert name not in NAMES


def test_it_is_a_list_for_everybody_else():
    assert json.loads(json.dumps(NAMES)) == list(NAMES)

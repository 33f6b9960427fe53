from __future__ import annotations

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.names import resolve, stem

KNOWN = [
    "detail.safetensors",
    "Detail.safetensors",
    "styles/ink.v1.2.safetensors",
    "styles\\Oil Paint.safetensors",
    "people/anna.safetensors",
    "old/anna.safetensors",
    "people/anna_dark.safetensors",
    "xl/sharp.pt",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("detail.safetensors", "detail.safetensors"),
        ("Detail", "Detail.safetensors"),
        ("styles/ink.v1.2", "styles/ink.v1.2.safetensors"),
        ("styles\\ink.v1.2.safetensors", "styles/ink.v1.2.safetensors"),
        ("ink.v1.2", "styles/ink.v1.2.safetensors"),
        ("INK.V1.2", "styles/ink.v1.2.safetensors"),
        ("styles/oil paint", "styles\\Oil Paint.safetensors"),
        ("Oil Paint", "styles\\Oil Paint.safetensors"),
        (" sharp ", "xl/sharp.pt"),
        ("old/anna", "old/anna.safetensors"),
        ("anna_dark", "people/anna_dark.safetensors"),
        ("dark", "people/anna_dark.safetensors"),
        ("SHAR", "xl/sharp.pt"),
    ],
)
def test_the_closest_reading_counts(name, meant):
    assert resolve(name, KNOWN) == meant


@pytest.mark.parametrize("known", KNOWN)
def test_every_file_is_found_by_its_own_name(known):
    assert resolve(known, KNOWN) == known
    assert resolve(known.replace("\\", "/"), KNOWN) == known


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("DETAIL", ["Detail.safetensors", "detail.safetensors"]),
        ("anna", ["old/anna.safetensors", "people/anna.safetensors"]),
        ("anna.safetensors", ["old/anna.safetensors", "people/anna.safetensors"]),
        ("styles/", ["styles/ink.v1.2.safetensors", "styles\\Oil Paint.safetensors"]),
    ],
)
def test_a_name_that_fits_several_is_refused_with_the_candidates(name, candidates):
    with pytest.raises(InputError) as refused:
        resolve(name, KNOWN)
    assert all(f"'{candidate}'" in str(refused.value) for candidate in candidates)


def test_a_missing_name_is_refused_with_similar_ones():
    with pytest.raises(InputError, match=r"no LoRA 'sharpp'.*Similar: 'xl/sharp\.pt'"):
        resolve("sharpp", KNOWN)
    with pytest.raises(InputError, match="no LoRA 'quite other'"):
        resolve("quite other", KNOWN)
    with pytest.raises(InputError, match="models/loras is empty"):
        resolve("x", [])


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_means_nothing(name):
    with pytest.raises(InputError, match="no LoRA"):
        resolve(name, KNOWN)


def test_a_long_list_of_candidates_is_cut():
    known = [f"set/{index:02}.safetensors" for index in range(20)]
    with pytest.raises(InputError, match=r"fits 20 files.*and 12 more"):
        resolve("set", known)


def test_a_dot_in_a_name_is_no_extension():
    assert stem("ink.v1.2") == "ink.v1.2"
    assert stem("ink.v1.2.SAFETENSORS") == "ink.v1.2"

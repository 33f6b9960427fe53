"""Libraries as people have them for other engines: they are copied here and go on working."""

from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.wildcards import Library, expand, find_dialect, probabilities
from luna_collection.utils.wildcards.lint import lint

FILES = {
    # Text files in folders, as for dynamicprompts and Impact Pack, with what editors on Windows leave in them.
    "color.txt": "\ufeffred\r\n\tgreen\t\r\n\r\n# comment\r\n2::blue\r\n",
    "Artists/impressionists.txt": "Monet\nDegas\n",
    "Artists/old/masters.txt": "Titian\n",
    "Artists/old/Dutch Masters.txt": "Vermeer\n",
    "s1/pose.txt": "sitting\n",
    "s2/pose.txt": "standing\n",
    "s2/a b.txt": "with a space\n",
    "s2/a-b.txt": "with a hyphen\n",
    # One large YAML file whose keys are the names.
    "collection.yaml": (
        "Bo:\n  Hair Color: [blond, '__color__']\n  'v1.5': [old]\n"
        "flat/key: [flat]\n'flat/dir': {below: [deep]}\nsingle: only one\n"
    ),
    # Keys and items with weights, as dynamicprompts writes them.
    "pantry.yaml": "moods:\n  - {weight: 3, text: calm}\n  - weight: 1\n    content: wild\n",
    "escaped.json": '{"\\u00e9t\\u00e9": ["warm"]}',  # as Python writes it
    "list.json": '{"bo": {"n": [1, 2.50, {"value": "x", "weight": 2}]}}',
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder: Path = tmp_path_factory.mktemp("moved")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return Library([folder])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__color__", {"red", "green", "blue"}),
        ("__artists/*__", {"Monet", "Degas"}),
        ("__Artists/**__", {"Monet", "Degas", "Titian", "Vermeer"}),
        ("__*/masters__", {"Titian"}),
        ("__**/masters__", {"Titian"}),
        ("__masters__", {"Titian"}),
        ("__artists/old/dutch masters__", {"Vermeer"}),
        ("__Artists\\old\\Dutch-Masters__", {"Vermeer"}),
        ("__*/dutch-masters__", {"Vermeer"}),
        ("__pose__", {"sitting", "standing"}),
        ("__s1/pose__", {"sitting"}),
        ("__*/pose__", {"sitting", "standing"}),
        ("__s2/a b__", {"with a space"}),
        ("__s2/a-b__", {"with a hyphen"}),
        ("__Bo/hair-color__", {"blond", "red", "green", "blue"}),
        ("__collection/bo/Hair Color__", {"blond", "red", "green", "blue"}),
        ("__bo/v1.5__", {"old"}),
        ("{collection:Bo.v1.5}", {"old"}),
        ("{collection: [Bo.v1.5] [flat/key]}", {"old flat"}),
        ("__flat/key__", {"flat"}),
        ("__flat/*__", {"flat"}),
        ("__flat/**__", {"flat", "deep"}),
        ("__flat/dir/below__", {"deep"}),
        ("__single__", {"only one"}),
        ("__moods__", {"calm", "wild"}),
        ("__bo/n__", {"1", "2.50", "x"}),
        ("__été__", {"warm"}),
        ("{ }", {""}),
    ],
)
def test_names_lead_where_they_led(library, text, expected):
    assert set(probabilities(text, library)) == expected


@pytest.mark.parametrize("dialect", ["dynamicprompts", "impact"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__Artists/*__", {"Monet", "Degas", "Titian", "Vermeer"}),
        ("__Art*__", {"Monet", "Degas", "Titian", "Vermeer"}),
        ("__*/masters__", {"Titian"}),
        ("__flat/*__", {"flat", "deep"}),
    ],
)
def test_a_star_goes_into_folders_where_it_did(library, dialect, text, expected):
    assert set(probabilities(text, library, find_dialect(dialect))) == expected


@pytest.mark.parametrize(
    ("file", "content", "name", "said"),
    [
        ("words.txt", "", "words", "words.txt: there are no values in it."),
        ("words.txt", "# all\n# comments\n", "words", "words.txt: there are no values in it."),
        ("words.yaml", "", "words", "words.yaml: there are no values in it."),
        (
            "words.yaml",
            "hair:\n  red:\n",
            "words/hair/red",
            "words.yaml: there are no values below 'hair/red' in it.",
        ),
        ("words.yaml", "hair:\n\t- red\n", "words", "write spaces there"),
    ],
)
def test_why_a_file_has_nothing_is_said(tmp_path, file, content, name, said):
    (tmp_path / file).write_text(content, "utf-8")
    warnings = [str(each) for each in expand(f"__{name}__", 0, Library([tmp_path])).warnings]
    assert any(said in warning for warning in warnings)
    assert any("nothing is found" in warning for warning in warnings)


def test_nothing_is_wrong_with_them(library):
    assert [str(remark) for remark in lint(library)] == []

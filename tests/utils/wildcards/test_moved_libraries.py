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
    # Prompts with what they have in common written once.
    "prompts.yaml": (
        "base: &base {text: portrait, weight: 2}\n"
        "list:\n  - *base\n  - <<: *base\n    text: landscape\n  - {<<: *base, weight: 0}\n"
    ),
    # One name for several things.
    "twice.txt": "a line\n",
    "twice.yaml": "key: [a value]\n",
    "twice/inside.txt": "a file\n",
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
        ("__prompts/list__", {"portrait", "landscape"}),
        ("__twice__", {"a line"}),
        ("__twice/key__", {"a value"}),
        ("{twice:key}", {"a value"}),
        ("{twice:inside}", {"a file"}),
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
        ("words.yaml", "hair:\n\t- red\n", "words", "words.yaml:2: it cannot be read"),
        ("words.yaml", "hair:\n\t- red\n", "words", "write spaces there"),
        ("words.yaml", "a: [1]\n---\nb: [2]\n", "words", "a file of its own"),
        ("words.json", '{\n"a": ["x",]\n}', "words", "words.json:2: it cannot be read"),
        ("words.json", '{\n"a": ["x",]\n}', "words", "comma before the closing bracket"),
        ("words.json", '{"a": ["x"],}', "words", "comma before the closing bracket"),
        ("words.json", '{\n// mine\n"a": []}', "words", "JSON knows no comments"),
    ],
)
def test_why_a_file_has_nothing_is_said(tmp_path, file, content, name, said):
    (tmp_path / file).write_text(content, "utf-8")
    warnings = [str(each) for each in expand(f"__{name}__", 0, Library([tmp_path])).warnings]
    assert any(said in warning for warning in warnings)
    assert any("nothing is found" in warning for warning in warnings)


def test_merged_weights_count(library):
    chances = probabilities("__prompts/list__", library)
    assert chances == pytest.approx({"portrait": 0.5, "landscape": 0.5})


def test_of_a_key_that_is_there_twice_the_last_counts_and_it_is_said(tmp_path):
    (tmp_path / "words.json").write_text('{"a": ["x"], "a": ["y"]}', "utf-8")
    result = expand("__words/a__", 0, Library([tmp_path]))
    assert result.text == "y"
    assert any("'a' is there twice" in warning.message for warning in result.warnings)


def test_what_is_wrong_with_links_is_said_by_lint(tmp_path):
    folder = tmp_path / "wildcards"
    folder.mkdir()
    try:
        (folder / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
        (folder / "again").symlink_to(folder, target_is_directory=True)
    except OSError as reason:
        pytest.skip(f"links cannot be made here: {reason}")
    said = {remark.file: remark.message for remark in lint(Library([folder]))}
    assert "leads to nothing" in said["gone.txt"]
    assert "another folder of the library" in said["again"]


def test_nothing_is_wrong_with_them(library):
    remarks = [remark for remark in lint(library) if "has the same name" not in remark.message]
    assert [str(remark) for remark in remarks] == []


@pytest.mark.parametrize("dialect", ["luna", "impact"])
def test_patterns_over_thousands_of_lists_are_matched_once_for_each_state_of_a_file(
    tmp_path, dialect
):
    groups = {f"g{number}": [f"v{number}"] for number in range(3000)}
    (tmp_path / "large.yaml").write_text(
        "".join(f"{name}:\n  prompts: {values}\n  other: [x]\n" for name, values in groups.items()),
        "utf-8",
    )
    library, grammar = Library([tmp_path]), find_dialect(dialect)
    for text in ("__large/g29*/prompts__", "__*/g29*/prompts__", "__**/g29*/prompts__"):
        expected = {f"v{n}" for n in range(3000) if str(n).startswith("29")}
        assert set(probabilities(text, library, grammar)) == expected
    assert set(probabilities("__g7/prompts__", library, grammar)) == {"v7"}
    assert set(probabilities("__**/prompts__", library, grammar)) == {
        value for values in groups.values() for value in values
    }
    (tmp_path / "large.yaml").write_text("g29:\n  prompts: [new]\n", "utf-8")
    assert set(probabilities("__large/g29*/prompts__", library, grammar)) == {"new"}


def test_a_file_without_lists_is_checked_too(tmp_path):
    (tmp_path / "nothing.yaml").write_text("{}", "utf-8")
    (tmp_path / "words.txt").write_text("{__words__} x\n__nothing__\n", "utf-8")
    said = [str(remark) for remark in lint(Library([tmp_path]))]
    assert any("leads back" in each for each in said)
    assert any("nothing is found for __nothing__" in each for each in said)

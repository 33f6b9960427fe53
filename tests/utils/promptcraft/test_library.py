"""Folders: which files are what, what is wrong with them, and changes that are seen at once."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from luna_collection.utils.promptcraft import CraftLibrary, craft
from luna_collection.utils.promptcraft.kinds import Kind, kind_of_header, kind_of_name
from luna_collection.utils.wildcards import WildcardError


def library_of(folder: Path, files: dict[str, str]) -> CraftLibrary:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return CraftLibrary([folder])


@pytest.mark.parametrize(
    ("stem", "kind", "base"),
    [
        ("hats", Kind.CATEGORY, "hats"),
        ("hats.constraint", Kind.CONSTRAINT, "hats"),
        ("hats.modifier", Kind.MODIFIER, "hats"),
        ("hats_expander", Kind.EXPANDER, "hats"),
        ("hats.chain", Kind.CHAIN, "hats"),
        ("hats.TAGS", Kind.TAGS, "hats"),
        ("hats_lora", Kind.LORA, "hats"),
        ("rules_hats", Kind.CONSTRAINT, "hats"),
        ("expanders_hats", Kind.EXPANDER, "hats"),
        ("modifiers_hats", Kind.MODIFIER, "hats"),
        ("lora_hats", Kind.LORA, "hats"),
        ("tags_hats", Kind.TAGS, "hats"),
        ("tags", Kind.CATEGORY, "tags"),
        ("explorer", Kind.CATEGORY, "explorer"),
    ],
)
def test_a_files_name_says_what_it_is(stem, kind, base):
    assert kind_of_name(stem) == (kind, base)


@pytest.mark.parametrize(
    "line", ["type: modifier", "# type: modifier", ' "type": "modifier",', '{"type":"modifier"']
)
def test_a_header_says_what_a_file_is(line):
    assert kind_of_header(f"# mine\n{line}\nrest: 1") is Kind.MODIFIER
    assert kind_of_header("# mine\n" * 10 + line) is Kind.CATEGORY


RULES = {
    "hats.modifier.yaml": "hats: {modifiers: [old]}",
    "hats_modifier.yml": "hats: {modifiers: [old]}",
    "modifiers_hats.json": '{"hats": {"modifiers": ["old"]}}',
    "any.yaml": "type: modifier\nhats: {modifiers: [old]}",
    "sub/any.json": '{"type": "modifier",\n "hats": {"modifiers": ["old"]}}',
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_found_by_each_kind_of_name(tmp_path, name):
    library = library_of(tmp_path, {"hats.yaml": "[cap]", name: RULES[name]})
    assert craft("{hats}", 1, library).prompt == "cap, old"


def test_what_is_left_out(tmp_path):
    names = (
        "_off/a.yaml",
        "!off/b.yaml",
        ".hidden.yaml",
        "ok/_deep/c.yaml",
        "connections.json",
        "ok/d.yml",
    )
    library = library_of(tmp_path, dict.fromkeys(names, "[x]"))
    assert library.content().names == ["d"]


def test_two_files_of_a_name_are_told_apart_by_their_folder(tmp_path):
    library = library_of(tmp_path, {"a/top.yaml": "[one]", "b/top.yaml": "[two]"})
    crafted = craft("{top} {a/top} {b/top}", 1, library)
    assert crafted.prompt == "one one two"
    assert "{b/top}" in str(crafted.warnings[0])
    assert "b/top.yaml" in str(crafted.warnings[0])


def test_text_wildcards_of_the_same_folder_work_beside(tmp_path):
    library = library_of(tmp_path, {"c/tone.txt": "soft\n", "hats.yaml": "['__c/tone__ cap']"})
    assert craft("{hats}, __tone__", 1, library).prompt == "soft cap, soft"


def test_a_change_is_seen_by_the_next_call(tmp_path):
    library = library_of(tmp_path, {"hats.yaml": "[cap]"})
    before = library.stamp()
    assert craft("{hats}", 1, library).prompt == "cap"
    library_of(
        tmp_path, {"hats.yaml": "[crown]", "hats.modifier.yaml": "hats: {modifiers: [gold]}"}
    )
    assert craft("{hats}", 1, library).prompt == "crown, gold"
    assert library.stamp() != before
    (tmp_path / "hats.modifier.yaml").unlink()
    assert craft("{hats}", 1, library).prompt == "crown"


def test_unchanged_files_are_not_read_again(tmp_path):
    library = library_of(tmp_path, {"hats.yaml": "[cap]"})
    os.utime(tmp_path / "hats.yaml", (1_000_000_000, 1_000_000_000))
    assert library.content() is library.content()


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        (
            "hats.yaml",
            "items:\n- {id: a, text: x}\n- {id: A, text: y}",
            "line 3: the id 'A' is that of line 2",
        ),
        (
            "hats.json",
            '{"items": [\n {"id": "a", "text": "x"},\n\t{"id": "a", "text": "y"}]}',
            "line 3",
        ),
        ("hats.yaml", "items:\n- [", "line 2"),
        ("hats.json", '{\n"a": }', "line 2"),
        ("hats.yaml", "x: &x [*x]", "deep|alias|recursive"),
        ("hats.yaml", "a\0b", "null bytes"),
    ],
)
def test_a_category_that_cannot_be_read_says_file_and_line(tmp_path, name, text, where):
    library = library_of(tmp_path, {name: text, "good.yaml": "[fine]"})
    with pytest.raises(WildcardError, match=name) as caught:
        craft("{hats}", 1, library)
    assert re.search(where, str(caught.value))
    assert craft("{good}", 1, library).prompt == "fine"


def test_broken_rules_are_warnings_with_file_and_line(tmp_path):
    library = library_of(
        tmp_path,
        {
            "hats.yaml": "\n- {value: cap, weight: heavy}",
            "a.modifier.yaml": "hats:\n  modifiers: [",
            "b.modifier.yaml": "\n\nhats: {words: [x]}",
            "c.constraint.json": '{"hats":\n {"x": {"compatible": []}}}',
        },
    )
    crafted = craft("{hats}", 1, library)
    assert crafted.prompt == "cap"
    told = [str(warning) for warning in crafted.warnings]
    for start in (
        "hats.yaml:2: ",
        "a.modifier.yaml: line ",
        "b.modifier.yaml:3: ",
        "c.constraint.json:2: ",
    ):
        assert any(each.startswith(start) for each in told), start


def test_json_and_yaml_say_the_same(tmp_path):
    data = {
        "items": [
            {"id": "a", "text": 'é\t"q" \\ {x}', "tags": ["t"], "weight": 1.5},
            {"text": "b", "id": "7"},
        ]
    }
    one = (
        library_of(tmp_path / "j", {"x.json": json.dumps(data, indent="\t")})
        .content()
        .category("x")
    )
    two = library_of(tmp_path / "y", {"x.yaml": json.dumps(data)}).content().category("x")
    assert [(i.id, i.text, i.weight, i.tags) for i in one.items] == [
        (i.id, i.text, i.weight, i.tags) for i in two.items
    ]
    assert [item.line for item in one.items] == [3, 11]


def test_aliases_cannot_make_a_bomb(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    library = library_of(tmp_path, {"bomb.yaml": "\n".join(lines), "good.yaml": "[fine]"})
    with pytest.raises(WildcardError, match="too many values"):
        craft("{bomb}", 1, library)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_that_lead_out_are_not_followed(tmp_path):
    (tmp_path / "secret.yaml").write_text("[secret]", "utf-8")
    library = library_of(tmp_path / "in", {"good.yaml": "[fine]"})
    (tmp_path / "in/leak.yaml").symlink_to(tmp_path / "secret.yaml")
    for name in ("leak", "../secret", "/etc/passwd", "..\\secret"):
        assert "secret" not in craft(f"{{{name}}}", 1, library).prompt.replace(name, "")


def test_the_tree_shows_what_there_is(tmp_path):
    library = library_of(
        tmp_path, {"a.yaml": "{x: {y: [1, 2]}, z: [3]}", "b.yaml": "[1]", "c.yaml": "- ["}
    )
    tree = library.content().tree()
    assert tree["a"] == {"x": {"y": 2}, "z": 1}
    assert tree["b"] == 1
    assert "c.yaml" in tree["c"]

"""The linter, and `luna.py wildcards`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import Library
from luna_collection.utils.wildcards.lint import lint


def found(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_bytes(text.encode("latin-1"))
    return [str(remark) for remark in lint(Library([folder]))]


GOOD = {
    "color_txt": "# fine\nred\n3::blue\n{dark|light} green\n<lora:a__b__c:1>\n[SEP] [a:b:0.5]\n",
    "people_yaml": "templates:\n  hero: ['[build] man in __color__, {people:build}, [SEP]']\nbuild: [tall]\n",
    "moods_json": '{"calm": ["${v:x}", "__{color|moods/calm}__", "{1-10}", "{a b: c}"]}',
}


def test_a_good_folder_has_no_remarks(tmp_path):
    assert found(tmp_path, **GOOD) == []


@pytest.mark.parametrize(
    ("files", "remark"),
    [
        ({"a_txt": "fine\n\n__nowhere__ x\n"}, "a.txt:3: nothing is found for __nowhere__."),
        ({"a_txt": "{nofile:x}\n"}, "a.txt:1: nothing is found for {nofile:x}."),
        ({"a_txt": "{color}\n{b:none.such}\n", "b_yaml": "x: [color]"}, "a.txt:2: nothing is found for {b:none.such}."),
        ({"a_yaml": "templates:\n  - ok\n  - 'a [b.c]'\nb: [x]\n"}, "a.yaml:3: nothing is found for [b.c]."),
        ({"a_txt": "ok\n{red|blue\n"}, "a.txt:2: this '{' is never closed; it stays in the text. Close it with '}'."),
        ({"a_txt": "x {0::a|0::b}\n"}, "a.txt:1: all options of this choice weigh 0, so nothing can come up."),
        ({"a_txt": "0::x\n"}, "a.txt: all weights of the file are 0, so it is never drawn."),
        ({"a_txt": "# none\n"}, "a.txt: the file has no values."),
        ({"a_yaml": "x: []\ny: [1]\n"}, "a.yaml:1: 'x' has no values."),
        ({"a_yaml": "x: [1]\nx: [2]\n"}, "a.yaml:2: the key 'x' is there twice; only the last one counts."),
        ({"a_txt": "x\0y"}, "a.txt: it holds null bytes, so it is no text file. Save it as UTF-8 text."),
        ({"a_txt": "x\n" + "{" * 60 + "}" * 60}, "a.txt:2: In line 1, braces are nested more than 50 deep."),
        ({"a_txt": "x\n", "a_yaml": "y: [z]\n"}, "a.yaml: 'a.txt' has the same name; this file is only used where that has nothing."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path, files, remark):
    assert remark in found(tmp_path, **files)


def test_rings_are_found_before_anybody_draws_them(tmp_path):
    remarks = found(
        tmp_path, a_txt="x\n__b__\n", b_txt="__c__\n", c_txt="y\nz __a__\n", d_txt="__a__\n"
    )
    assert len(remarks) == 1
    assert "leads back to this list" in remarks[0]


def test_other_encodings_are_named(tmp_path):
    assert found(tmp_path, a_txt="cr\xe8me\n")[0].startswith("a.txt:1: this is not UTF-8")


class TestCommand:
    @pytest.fixture
    def run(self, root):
        def run(*arguments: object) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(root / "scripts" / "wildcards.py"), *map(str, arguments)]
            return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

        return run

    def test_lint_prints_remarks_and_fails(self, run, tmp_path):
        found(tmp_path, a_txt="__nowhere__\n")
        done = run("lint", tmp_path)
        assert done.returncode == 1, done.stderr
        assert done.stdout.splitlines() == [
            "a.txt:1: nothing is found for __nowhere__.",
            "1 names, 1 remarks",
        ]

    def test_lint_of_a_good_folder_succeeds(self, run, tmp_path):
        found(tmp_path, **GOOD)
        done = run("lint", tmp_path)
        assert (done.returncode, done.stdout) == (0, "3 names, no remarks\n")

    def test_sample_shows_texts_and_warnings(self, run, tmp_path):
        found(tmp_path, a_txt="x\n")
        done = run("sample", "{@1|2} __a__ __b__", tmp_path, "--count", 3, "--seed", 5)
        assert done.stdout.splitlines() == ["1 x __b__", "2 x __b__", "1 x __b__"]
        assert "nothing is found for 'b'" in done.stderr

    def test_sample_speaks_all_dialects(self, run):
        done = run("sample", "{2$$a|a}", "--count", 1, "--dialect", "impact")
        assert done.stdout == "a a\n"

    def test_a_folder_that_is_missing_is_said(self, run, tmp_path):
        done = run("lint", tmp_path / "none")
        assert (done.returncode, done.stdout) == (2, f"There is no folder {tmp_path / 'none'}.\n")

    def test_a_text_without_an_expansion_is_said(self, run):
        done = run("sample", "{" * 60 + "}" * 60)
        assert done.returncode == 1
        assert "nested more than 50 deep" in done.stdout

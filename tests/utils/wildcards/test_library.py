"""Folders of wildcards: what is found, what is not, and what is wrong with files."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import (
    Library,
    Remark,
    count,
    expand,
    folders,
    probabilities,
    suggesting,
)
from luna_collection.utils.wildcards.names import parts_of


def write(folder: Path, files: dict[str, str | bytes]) -> Library:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Library([folder])


def possible(library: Library, text: str) -> set[str]:
    return set(probabilities(text, library))


def warnings_of(library: Library, text: str) -> list[str]:
    return [str(warning) for warning in expand(text, 0, library).warnings]


class TestEncodings:
    @pytest.mark.parametrize(
        "data",
        [
            "crème\nжар\n雪\n".encode(),
            "crème\nжар\n雪\n".encode("utf-8-sig"),
            "crème\nжар\n雪\n".encode("utf-16"),
            "crème\r\nжар\r\n雪".encode("utf-32"),
            "crème\rжар\r雪".encode(),
        ],
        ids=["utf-8", "utf-8-sig", "utf-16", "utf-32 and CRLF", "CR"],
    )
    def test_text_in_unicode_is_read_as_it_is(self, tmp_path, data):
        library = write(tmp_path, {"words.txt": data})
        assert possible(library, "__words__") == {"crème", "жар", "雪"}
        assert warnings_of(library, "__words__") == []

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_utf_16_without_its_mark_is_noticed(self, tmp_path, encoding):
        library = write(tmp_path, {"words.txt": "red hat\nblue hat\n".encode(encoding)})
        assert possible(library, "__words__") == {"red hat", "blue hat"}

    def test_other_text_is_read_with_a_warning_that_names_file_and_line(self, tmp_path):
        library = write(tmp_path, {"sub/words.txt": b"red\ncr\xe8me\n"})
        assert possible(library, "__sub/words__") == {"red", "crème"}
        (warning,) = warnings_of(library, "__sub/words__")
        assert warning.startswith("sub/words.txt:2: this is not UTF-8")

    def test_bytes_that_no_code_page_has_are_still_read(self, tmp_path):
        library = write(tmp_path, {"words.txt": b"a\x81b\n"})
        assert possible(library, "__words__") == {"a\x81b"}

    @pytest.mark.parametrize(
        "data", [b"red\n\0\0\n", bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n\0"]
    )
    def test_files_that_are_no_text_are_named_and_others_still_load(self, tmp_path, data):
        library = write(tmp_path, {"all/bad.txt": data, "all/good.txt": "red\n"})
        assert possible(library, "__all/*__") == {"red"}
        (warning,) = warnings_of(library, "__all/*__")
        assert warning.startswith("all/bad.txt: it holds null bytes")

    def test_an_empty_file_has_nothing(self, tmp_path):
        library = write(tmp_path, {"none.txt": "", "only.txt": "# nothing\n\n", "y.yaml": ""})
        for name in ("none", "only", "y"):
            assert possible(library, f"__{name}__") == {f"__{name}__"}


class TestStructuredFiles:
    def test_a_broken_yaml_file_is_named_with_its_line_and_others_still_load(self, tmp_path):
        library = write(
            tmp_path, {"a/bad.yaml": "x:\n  - {a|b} hat\n", "a/good.yaml": "y: [red]\n"}
        )
        assert possible(library, "__a/*/*__") == {"red"}
        (warning,) = warnings_of(library, "__a/*/*__")
        assert warning.startswith("a/bad.yaml:2: it cannot be read as YAML")
        assert "quotes" in warning

    def test_a_broken_json_file_is_named_with_its_line(self, tmp_path):
        library = write(tmp_path, {"bad.json": '{\n"x": [1,\n}'})
        assert warnings_of(library, "__bad/x__")[0].startswith("bad.json:3:")

    def test_choices_that_were_not_quoted_are_understood(self, tmp_path):
        library = write(tmp_path, {"c.yaml": "x:\n  - {red|blue}\n"})
        assert possible(library, "__c/x__") == {"red", "blue"}

    def test_nothing_in_a_yaml_file_is_run(self, tmp_path):
        marker = tmp_path / "ran"
        content = f"x:\n  - !!python/object/apply:os.mkdir ['{marker}']\n  - red\n"
        library = write(tmp_path, {"c.yaml": content})
        expand("__c/x__", 0, library)
        assert not marker.exists()

    def test_aliases_and_merges_are_followed(self, tmp_path):
        content = (
            "base: &base\n  hats: [fur]\n  coats: [long]\nwinter:\n  <<: *base\n  hats: [wool]\n"
        )
        library = write(tmp_path, {"c.yaml": content})
        assert possible(library, "__c/winter__") == {"wool", "long"}

    def test_an_alias_into_itself_is_an_error_of_that_file(self, tmp_path):
        library = write(tmp_path, {"c.yaml": "x: &x\n  - red\n  - *x\n"})
        assert (
            "an alias points to what it is itself a part of" in warnings_of(library, "__c/x__")[0]
        )

    def test_aliases_that_multiply_are_an_error_of_that_file(self, tmp_path):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        library = write(tmp_path, {"bomb.yaml": "\n".join(lines)})
        assert "aliases repeat" in warnings_of(library, "__bomb/a8__")[0]

    def test_deep_nesting_is_an_error_of_that_file(self, tmp_path):
        library = write(
            tmp_path, {"y.yaml": "[" * 900 + "]" * 900, "j.json": "[" * 900 + "]" * 900}
        )
        for name in ("y", "j"):
            assert "nested" in warnings_of(library, f"__{name}__")[0]

    def test_rules_change_what_values_weigh(self, tmp_path):
        rules = "weights:\n  any:\n    items: [coat]\n    weight: 3\n"
        files = {"wildcard_rules.yaml": rules, "c.yaml": "x: [coat, shirt]\n"}
        library = write(tmp_path, files)
        assert probabilities("__c/x__", library) == {"coat": 0.75, "shirt": 0.25}

    def test_the_rules_are_no_values(self, tmp_path):
        library = write(tmp_path, {"wildcard_rules.yaml": "weights: {}\n", "c.txt": "x\n"})
        assert [entry.name for entry in library.index().entries] == ["c"]

    def test_a_weight_that_is_none_is_said(self, tmp_path):
        library = write(tmp_path, {"c.yaml": "x:\n  - {value: a, weight: much}\n"})
        assert warnings_of(library, "__c/x__")[0].startswith("c.yaml:2: the weight 'much'")


class TestPlaces:
    def test_the_first_folder_counts(self, tmp_path):
        for name in ("one", "two"):
            write(tmp_path / name, {"c.txt": name})
        library = Library([tmp_path / "two", tmp_path / "one"])
        assert possible(library, "__c__") == {"two"}

    def test_text_comes_before_yaml(self, tmp_path):
        library = write(tmp_path, {"c.yaml": "x: [b]\n", "c.txt": "a\n"})
        assert possible(library, "__c__") == {"a"}
        assert possible(library, "__c/x__") == {"b"}

    def test_a_folder_that_is_missing_has_nothing(self, tmp_path):
        library = Library([tmp_path / "none"])
        assert possible(library, "__c__") == {"__c__"}
        assert library.index().total == 0

    def test_hidden_files_are_not_read(self, tmp_path):
        library = write(tmp_path, {".c.txt": "a\n", ".git/c.txt": "b\n"})
        assert possible(library, "__c__") == {"__c__"}

    def test_accents_count_the_same_however_they_are_encoded(self, tmp_path):
        library = write(tmp_path, {"cafe\u0301.txt": "noir\n"})
        assert possible(library, "__Caf\u00e9__") == {"noir"}

    def test_ten_thousand_lines(self, tmp_path):
        library = write(tmp_path, {"c.txt": "\n".join(f"line {n}" for n in range(10_000))})
        assert count("{2$$__c__}", library) == 10_000 * 9_999
        assert len({expand("__c__", seed, library).text for seed in range(200)}) > 190

    def test_only_what_is_named_is_looked_at(self, tmp_path, monkeypatch):
        write(tmp_path, {f"g{n}/f{m}.txt": "x\n" for n in range(20) for m in range(5)})
        listed = []
        listing = folders.Listing.__init__

        def noted(self, path, root, inside):
            listed.append(inside)
            listing(self, path, root, inside)

        monkeypatch.setattr(folders.Listing, "__init__", noted)
        library = Library([tmp_path])
        assert listed == []
        assert expand("__g7/f3__", 0, library).text == "x"
        assert sorted(set(listed)) == ["", "g7"]


class TestOutside:
    @pytest.mark.parametrize(
        "name",
        [
            *("../secret", "..\\secret", "a/../../secret", "..", "a/..", "/etc/passwd", "//host/x"),
            *(
                "\\\\host\\x",
                "C:secret",
                "C:/secret",
                "c.txt:stream",
                "CON",
                "nul",
                "com1",
                "LPT9.x",
            ),
            *(".. /secret", ".../secret", "a/. ./secret", "sec\0ret", "sec\nret", "", " ", "/"),
        ],
    )
    def test_names_that_lead_out_or_to_devices_are_none(self, name):
        assert parts_of(name) is None

    def test_a_file_beside_the_folder_is_not_read(self, tmp_path):
        write(tmp_path, {"secret.txt": "password\n", "in/c.txt": "red\n"})
        library = Library([tmp_path / "in"])
        for name in (
            "../secret",
            "..\\secret",
            str(tmp_path / "secret"),
            "**/../secret",
            "in/../../secret",
        ):
            assert "password" not in expand(f"__{name}__", 0, library).text
            assert "password" not in expand(f"{{{name}}}", 0, library).text

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
    def test_links_out_of_the_folder_are_left_out_and_named(self, tmp_path):
        write(tmp_path, {"out/secret.txt": "password\n", "in/c.txt": "red\n"})
        (tmp_path / "in" / "file.txt").symlink_to(tmp_path / "out" / "secret.txt")
        (tmp_path / "in" / "dir").symlink_to(tmp_path / "out")
        library = Library([tmp_path / "in"])
        for name in ("file", "dir/secret", "**/secret", "*", "dir/*"):
            assert "password" not in possible(library, f"__{name}__")
        left_out = [str(r) for _, _, remarks in library.read_all() for r in remarks]
        assert [text.split(":")[0] for text in sorted(left_out)] == ["dir", "file.txt"]

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
    def test_a_link_that_is_turned_outwards_later_is_not_read(self, tmp_path):
        write(tmp_path, {"out/secret.txt": "password\n", "in/real/c.txt": "red\n"})
        link = tmp_path / "in" / "link.txt"
        link.symlink_to(tmp_path / "in" / "real" / "c.txt")
        library = Library([tmp_path / "in"])
        assert expand("__link__", 0, library).text == "red"
        link.unlink()
        link.symlink_to(tmp_path / "out" / "secret.txt")
        assert "password" not in expand("__link__", 0, library).text

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
    def test_rings_of_links_end(self, tmp_path):
        write(tmp_path, {"a/c.txt": "red\n", "b/d.txt": "blue\n"})
        (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
        (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
        (tmp_path / "a" / "up").symlink_to(tmp_path)
        assert possible(Library([tmp_path]), "__**/*__") == {"red", "blue"}


class TestChanges:
    def test_a_file_that_changes_counts_at_once(self, tmp_path):
        library = write(tmp_path, {"c.txt": "red\n"})
        for word in ("two", "six", "longer"):  # of the same size, and within one tick of the clock
            (tmp_path / "c.txt").write_text(f"{word}\n", "utf-8")
            assert expand("__c__", 0, library).text == word

    def test_a_file_that_comes_or_goes_counts_at_once(self, tmp_path):
        library = write(tmp_path, {"sub/c.txt": "red\n"})
        assert possible(library, "__sub/*__") == {"red"}
        write(tmp_path, {"sub/d.txt": "blue\n"})
        assert possible(library, "__sub/*__") == {"red", "blue"}
        (tmp_path / "sub" / "c.txt").unlink()
        assert possible(library, "__sub/*__") == {"blue"}
        assert possible(library, "__sub/c__") == {"__sub/c__"}

    def test_old_files_are_read_once(self, tmp_path, monkeypatch):
        library = write(tmp_path, {"c.txt": "red\n", "d.yaml": "x: [blue]\n"})
        then = time.time() - 100
        for path in (tmp_path / "c.txt", tmp_path / "d.yaml", tmp_path):
            os.utime(path, (then, then))
        text = "__c__ __d/x__ __x__ __*__"
        first = expand(text, 0, library)

        def refuse(*arguments):
            raise AssertionError("a file was read again")

        monkeypatch.setattr(Library, "_bytes_of", refuse)
        monkeypatch.setattr(folders.Listing, "__init__", refuse)
        assert expand(text, 0, library) == first

    def test_a_changed_time_is_enough(self, tmp_path):
        library = write(tmp_path, {"c.txt": "red\n"})
        path = tmp_path / "c.txt"
        os.utime(path, (1000, 1000))
        assert expand("__c__", 0, library).text == "red"
        path.write_bytes(b"sky\n")
        os.utime(path, (2000, 2000))
        assert expand("__c__", 0, library).text == "sky"


class TestIndex:
    def test_it_comes_in_pages(self, tmp_path):
        library = write(tmp_path, {f"a/f{n:02d}.txt": "x\n" for n in range(25)} | {"B.json": "{}"})
        first, last = library.index(limit=10), library.index(offset=20, limit=10)
        assert (first.total, len(first.entries), len(last.entries)) == (26, 10, 6)
        assert first.entries[0] == ("a/f00", "a/f00.txt")
        assert last.entries[-1] == ("B", "B.json")

    def test_it_can_be_narrowed(self, tmp_path):
        library = write(tmp_path, {"a/x.txt": "", "a/y.yaml": "", "b/x.txt": ""})
        assert [entry.name for entry in library.index("A\\").entries] == ["a/x", "a/y"]

    def test_offsets_beyond_the_end_are_empty_pages(self, tmp_path):
        library = write(tmp_path, {"x.txt": ""})
        assert library.index(offset=5).entries == ()
        assert library.index(offset=-5).total == 1


def test_warnings_name_the_file_and_line_in_which_a_name_stands(tmp_path):
    content = json.dumps({"x": ["fine", "a __nowhere__ b"]}, indent=1)
    files = {
        "t.txt": "# comment\n\n__nothing__ here\n",
        "y.yaml": "x:\n  - fine\n  - '{nofile:path} here'\n",
        "j.json": content,
    }
    library = write(tmp_path, files)
    found = {
        str(w)
        for seed in range(20)
        for w in expand("__t__ __y/x__ __j/x__", seed, library).warnings
    }
    assert {text.split(": ")[0] for text in found} == {"t.txt:3", "y.yaml:3", "j.json:4"}


class TestNoticing:
    def old(self, path: Path, seconds: int) -> None:
        os.utime(path, (1_700_000_000 + seconds,) * 2)

    def test_new_weights_count_at_once(self, tmp_path):
        library = write(tmp_path, {"clothes.yaml": "tops: [shirt, coat]"})
        self.old(tmp_path / "clothes.yaml", 0)
        assert possible(library, "__clothes/tops__") == {"shirt", "coat"}
        rules = tmp_path / "wildcard_rules.yaml"
        for second, (weight, wanted) in enumerate([("0", {"coat"}), ("2", {"shirt", "coat"})]):
            rules.write_text(f"weights: {{any: {{items: [shirt], weight: {weight}}}}}")
            self.old(rules, second)
            assert possible(library, "__clothes/tops__") == wanted
        rules.write_text("weights: {any: {items: [coat], weight: 0}}")
        self.old(rules, 9)
        assert possible(library, "__clothes/tops__") == {"shirt"}
        rules.unlink()
        assert possible(library, "__clothes/tops__") == {"shirt", "coat"}

    def test_a_number_tells_that_something_has_changed(self, tmp_path):
        library = write(tmp_path, {"sub/a.txt": "x", "other/b.txt": "y", "k.yaml": "m: [z]"})
        for path in tmp_path.rglob("*.*"):
            self.old(path, 0)
        first = library.generation()
        expand("__sub/a__ __m__", 0, library)
        assert library.generation() == first == library.generation()
        (tmp_path / "other/b.txt").write_text("not looked at")
        assert library.generation() == first
        numbers = {first}
        for change in (
            lambda: (tmp_path / "sub/a.txt").write_text("longer"),
            lambda: (tmp_path / "k.yaml").write_text("m: [longer]"),
            lambda: (tmp_path / "sub/new.txt").write_text("x"),
            lambda: (tmp_path / "sub/new.txt").unlink(),
            lambda: (tmp_path / "wildcard_rules.yaml").write_text("weights: {}"),
        ):
            change()
            expand("__sub/a__ __m__", 0, library)  # read meanwhile, for another node
            assert library.generation() not in numbers
            numbers.add(library.generation())

    def test_a_folder_that_comes_later_is_noticed(self, tmp_path):
        library = Library([tmp_path / "later"])
        before = library.generation()
        assert warnings_of(library, "__a__")
        write(tmp_path / "later", {"a.txt": "x"})
        assert library.generation() != before
        assert possible(library, "__a__") == {"x"}

    def test_the_index_is_made_once_and_again_when_a_directory_changes(self, tmp_path):
        library = write(tmp_path, {"b.txt": "", "a/x.txt": "", "a/y.yaml": "", "A1.json": "{}"})
        for path in (tmp_path, tmp_path / "a"):
            self.old(path, 0)
        assert [entry.name for entry in library.index().entries] == ["a/x", "a/y", "A1", "b"]
        kept = library.index().entries[0]
        assert library.index().entries[0] is kept
        page = library.index("A/", 1, 5)
        assert (page.total, [entry.file for entry in page.entries]) == (2, ["a/y.yaml"])
        assert library.index("zzz").total == 0
        (tmp_path / "a/z.txt").touch()
        assert [entry.name for entry in library.index("a/").entries] == ["a/x", "a/y", "a/z"]


class TestSuggestions:
    FILES = {
        "color.txt": "x", "sub/animals.txt": "x", "clothes.yaml": "tops: [a]\nwinter: {hats: [b]}",
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("__colour__", "color"),
            ("__Colr__", "color"),
            ("__sub/animal__", "sub/animals"),
            ("__animal__", "animals"),
            ("__clothes/top__", "clothes/tops"),
            ("{clothes:winter.hat}", "clothes:winter.hats"),
            ("{clothes:wintre.hats}", "clothes:winter.hats"),
            ("__cloths/tops__", "clothes/tops"),
        ],
    )
    def test_a_name_that_is_nearly_right(self, tmp_path, text, meant):
        library = write(tmp_path, self.FILES)
        (warning,) = warnings_of(library, text)
        assert warning.endswith(f" Is '{meant}' meant?")

    @pytest.mark.parametrize("text", ["__zzz__", "__../color__", "__z*r__", "__q/w/e/r/t__"])
    def test_none_where_nothing_is_like_it(self, tmp_path, text):
        (warning,) = warnings_of(write(tmp_path, self.FILES), text)
        assert warning.endswith("stays in the text.")

    def test_a_file_that_cannot_be_read_is_not_proposed_for_itself(self, tmp_path):
        library = write(tmp_path, self.FILES)
        (tmp_path / "broken.txt").write_bytes(b"\0\1")
        unreadable, unknown = warnings_of(library, "{broken}")
        assert "null bytes" in unreadable
        assert unknown.endswith("stays in the text.")

    def test_of_very_many_names_only_some_are_compared(self, tmp_path, monkeypatch):
        compared = []
        find = suggesting.difflib.get_close_matches
        monkeypatch.setattr(
            suggesting.difflib,
            "get_close_matches",
            lambda word, names, n, cutoff: (
                compared.append(len(names)) or find(word, names, n, cutoff)
            ),
        )
        names = [f"{number}_color" for number in range(100_000, 120_000)]
        assert suggesting.closest("1001_colour", names).endswith("_color")
        assert compared[0] <= suggesting.MAX_LOOKED_AT


class TestFilesByPath:
    def test_a_file_of_the_library_is_read_and_no_other(self, tmp_path):
        library = write(tmp_path / "in", {"sub/k.yaml": "a: [x]", "c.txt": "red"})
        write(tmp_path / "out", {"k.yaml": "a: [y]"})
        document = library.document_of(tmp_path / "in/sub/k.yaml", [])
        assert document is not None
        assert document.file == "sub/k.yaml"
        assert library.document_of(tmp_path / "out/k.yaml", []) is None
        assert library.document_of(tmp_path / "in/sub/../../out/k.yaml", []) is None
        assert library.document_of(tmp_path / "in/none.yaml", []) is None

    def test_what_is_wrong_with_it_is_told(self, tmp_path):
        library = write(tmp_path, {"k.yaml": "a: [x"})
        remarks: list[Remark] = []
        assert library.document_of(tmp_path / "k.yaml", remarks) is None
        assert re.match(r"k\.yaml:\d: it cannot be read as YAML", str(remarks[0]))

    def test_files_with_keys_are_listed(self, tmp_path):
        library = write(tmp_path, {"b.json": "{}", "a/k.YML": "", "a/z.yaml": "", "c.txt": ""})
        assert list(library.structured_files()) == ["b.json", "a/k.YML", "a/z.yaml"]

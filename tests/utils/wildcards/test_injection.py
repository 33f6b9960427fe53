"""Values for YAML files: what is typed, where it goes, and that nothing else in the file changes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import yaml
from luna_collection.utils.wildcards.errors import WildcardError
from luna_collection.utils.wildcards.injection import ListStyle, inject, split_items, write

STOCK = """\
# my clothes
tops:  # worn above
  - shirt   # with buttons
  - 2::coat

  # below this, only winter
winter:
    hats: [cap, "fur hat"] # warm
    shoes: {boots: [high, low]}
sizes:
single: scarf
"""


def put(text: str, items: str, path: str, category: str = "", style: str = "list") -> str:
    given = split_items(items, underscores=False)
    return inject(text.encode(), given, path, category, ListStyle(style)).after


def changed(before: str, after: str) -> list[str]:
    """Return the lines that are new, after checking that all others are there in their order."""
    left = iter(before.splitlines())
    new, wanted = [], next(left, None)
    for line in after.splitlines():
        if line == wanted:
            wanted = next(left, None)
        else:
            new.append(line)
    assert wanted is None, f"this line is gone: {wanted}"
    return new


class TestItems:
    @pytest.mark.parametrize(
        ("typed", "items"),
        [
            ("a, b;c\nd", ["a", "b", "c", "d"]),
            (" ,; \n", []),
            ('"red, white" , \'x;y\'', ["red, white", "x;y"]),
            ("{a, b|c;d} hat, <lora:x,y:1>", ["{a, b|c;d} hat", "<lora:x,y:1>"]),
            ("{a, b\nc, d}", ["{a, b", "c", "d}"]),
            ("it's, o'clock", ["it's", "o'clock"]),
            ('"a, b', ['a, b']),
        ],
    )  # fmt: skip
    def test_are_parted_outside_of_braces_and_quotes(self, typed, items):
        assert split_items(typed, underscores=False) == items

    def test_spaces_become_underscores_if_wanted(self):
        assert split_items("fur  hat, cap", underscores=True) == ["fur_hat", "cap"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("path", "category", "style", "new"),
        [
            ("tops", "", "list", ["  - vest", "  - x y"]),
            ("tops", "", "inline", ["  - vest", "  - x y"]),
            ("winter", "gloves", "list", ["    gloves:", "      - vest", "      - x y"]),
            ("winter", "gloves", "inline", ["    gloves: [vest, x y]"]),
            ("", "summer", "list", ["summer:", "  - vest", "  - x y"]),
            ("a.b", "", "inline", ["a:", "  b: [vest, x y]"]),
        ],
    )
    def test_new_lines_stand_where_they_belong(self, path, category, style, new):
        after = put(STOCK, "vest, x y", path, category, style)
        assert changed(STOCK, after) == new

    @pytest.mark.parametrize(
        ("path", "after"),
        [
            ("hair color", "Hair Color: [red, vest]"),
            ("Hair-Color", "Hair Color: [red, vest]"),
            ("v1.5", "v1.5: [old, vest]"),
            ("Deep.v2.0.Any", "any: [new, vest]"),
        ],
    )
    def test_keys_are_found_as_wildcards_find_them(self, path, after):
        text = "Hair Color: [red]\nv1.5: [old]\ndeep:\n  v2.0:\n    any: [new]\n"
        assert after in put(text, "vest", path)

    def test_a_file_that_is_a_list_becomes_longer(self):
        assert put("# all\n- x # one\n- y\n", "z", "") == "# all\n- x # one\n- y\n- z\n"
        assert put("[x, y]\n", "z, y", "") == "[x, y, z]\n"

    def test_a_list_in_brackets_stays_one(self):
        after = put(STOCK, "vest", "winter.hats")
        assert '    hats: [cap, "fur hat", vest] # warm\n' in after
        after = put(STOCK, "vest", "winter.shoes.slippers")
        assert "    shoes: {boots: [high, low], slippers: [vest]}\n" in after

    def test_an_empty_key_and_a_single_value_become_lists(self):
        assert "sizes:\n  - 38\nsingle" in put(STOCK, "38", "sizes")
        assert put(STOCK, "hat", "single").endswith("single:\n  - scarf\n  - hat\n")
        assert put(STOCK, "hat", "single.kind").endswith("single:\n  kind:\n    - hat\n")

    def test_a_category_that_is_there_becomes_what_is_typed(self):
        after = put(STOCK, "vest", "", "tops")
        assert after.startswith("# my clothes\ntops:  # worn above\n  - vest\n\n  # below this")
        assert "    hats: [vest] # warm\n" in put(STOCK, "vest", "winter", "hats", "inline")

    @pytest.mark.parametrize("text", ["", "# only this\n", "{}", "{}\n", "---\n"])
    def test_an_empty_file_gets_its_first_list(self, text):
        assert yaml.safe_load(put(text, "x, y", "a.b")) == {"a": {"b": ["x", "y"]}}

    def test_line_ends_and_byte_order_mark_stay(self):
        before = "\ufeffa:\r\n  - x\r\nb: [y]\r\n"
        assert put(before, "z", "a") == "\ufeffa:\r\n  - x\r\n  - z\r\nb: [y]\r\n"

    def test_long_texts_of_several_lines_are_passed_over(self):
        before = "a:\n  - |\n    one\n    two\n\n# next\nb: [q]\n"
        after = put(before, "x", "a")
        assert after == "a:\n  - |\n    one\n    two\n  - x\n\n# next\nb: [q]\n"

    @pytest.mark.parametrize(
        ("text", "path", "lines"),
        [
            ("hair: &h\n  - red\nmore: *h\n", "new", ["new:", "  - a", "  - b"]),
            ("hair: !tag\n- red\nhats:\n- cap\n", "new", ["new:", "- a", "- b"]),
            ("deep: &d\n  hats:\n  - cap\n", "deep.new", ["  new:", "  - a", "  - b"]),
            ("hair: &h\n  - red\n", "hair", ["  - a", "  - b"]),
            ("hair: [&r red, *r]\nhats:\n  - cap\n", "new", ["new:", "  - a", "  - b"]),
            ("hair: &h\n  - &r red\nhats:\n  - cap\n  - *r\n", "hats", ["  - a", "  - b"]),
        ],
    )
    def test_new_lists_are_indented_as_others_also_beside_anchors(self, text, path, lines):
        assert changed(text, put(text, "a, b", path)) == lines


class TestValues:
    @pytest.mark.parametrize(
        "value",
        ["null", "~", "yes", "38", "a: b", "a #b", "- x", "{a|b}", "[x]", "*x", "&x", "!x", "%x", "@x", "`x",
         "3::x", "a:", "'q", 'd"q', "back\\slash", "жар", "雪 hat", "#x", "|", ">", "?", "-", "a]", "a}"],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["tops", "winter.hats", "new.list"])
    def test_come_out_as_they_were_typed(self, value, path):
        done = inject(STOCK.encode(), [value], path, "", ListStyle.LIST)
        found = yaml.load(done.after, yaml.BaseLoader)
        for key in path.split("."):
            found = found[key]
        assert found[-1] == value
        if value in ("null", "~"):
            assert yaml.safe_load(done.after) != yaml.safe_load(STOCK)

    def test_what_is_there_is_not_added_again(self):
        done = inject(STOCK.encode(), ["Shirt", "COAT", "vest", "Vest"], "tops", "", ListStyle.LIST)
        assert (done.added, done.skipped) == (("vest",), ("Shirt", "COAT"))
        same = inject(STOCK.encode(), ["shirt"], "tops", "", ListStyle.LIST)
        assert same.added == ()
        assert same.after == STOCK

    def test_the_preview_shows_the_change_with_its_neighbours(self):
        done = inject(STOCK.encode(), ["vest"], "tops", "", ListStyle.LIST)
        assert "  - 2::coat\n  - vest\n\n" in done.preview
        assert "sizes" not in done.preview

    def test_random_changes_leave_everything_else(self):
        rng = random.Random(4)
        text = STOCK
        for number in range(60):
            paths = ["tops", "winter.hats", "winter.shoes.boots", "sizes", f"k{number % 7}.x"]
            path = rng.choice(paths)
            before = yaml.load(text, yaml.BaseLoader)
            text = put(text, f"value {number}", path, "", rng.choice(["list", "inline"]))
            after = yaml.load(text, yaml.BaseLoader)
            assert "# my clothes" in text
            assert "# with buttons" in text
            top = path.partition(".")[0]
            assert before.pop(top, None) != after.pop(top)
            assert before == after


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "path", "category", "said"),
        [
            (STOCK, "winter", "", "has keys below it"),
            (STOCK, "", "", "target_path is empty"),
            (STOCK, "tops", "x", "'tops' is a list"),
            (STOCK, "tops.x.y", "", "'tops' is a list"),
            ("- a\n", "x", "", "The top of the file is a list"),
            ("a: &n [x]\nb: *n\n", "a", "", "'a' is used in several places"),
            ("a: [x\n", "a", "", r"line \d: it cannot be read as YAML"),
            ("a: 1\n---\nb: 2\n", "a", "", "cannot be read as YAML"),
            ("? [a, b]\n: x\n", "a", "", "without changing other"),
        ],
    )
    def test_say_why(self, text, path, category, said):
        with pytest.raises(WildcardError, match=said):
            put(text, "vest", path, category)

    def test_no_items(self):
        with pytest.raises(WildcardError, match="no item"):
            put(STOCK, " , ", "tops")

    def test_a_file_that_is_not_utf_8(self):
        with pytest.raises(WildcardError, match=r"not UTF-8 \(line 2\)"):
            inject(b"a:\n- cr\xe8me\n", ["x"], "a", "", ListStyle.LIST)


class TestWriting:
    def stock(self, folder: Path) -> Path:
        path = folder / "clothes.yaml"
        path.write_bytes(STOCK.encode())
        return path

    def test_all_or_nothing_and_the_old_file_beside_it(self, tmp_path):
        path = self.stock(tmp_path)
        path.chmod(0o640)
        done = inject(path.read_bytes(), ["vest"], "tops", "", ListStyle.LIST)
        backup = write(path, done)
        assert path.read_bytes() == done.after.encode()
        assert backup.read_bytes() == STOCK.encode()
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            "clothes.yaml", "clothes.yaml.bak",
        ]  # fmt: skip
        if os.name != "nt":
            assert path.stat().st_mode & 0o777 == 0o640

    def test_a_file_that_has_changed_meanwhile_is_left_alone(self, tmp_path):
        path = self.stock(tmp_path)
        done = inject(path.read_bytes(), ["vest"], "tops", "", ListStyle.LIST)
        path.write_text("other: [x]\n")
        with pytest.raises(WildcardError, match="changed meanwhile"):
            write(path, done)
        assert path.read_text() == "other: [x]\n"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_file_that_is_gone_is_said(self, tmp_path):
        path = self.stock(tmp_path)
        done = inject(path.read_bytes(), ["vest"], "tops", "", ListStyle.LIST)
        path.unlink()
        with pytest.raises(WildcardError, match="cannot be written"):
            write(path, done)

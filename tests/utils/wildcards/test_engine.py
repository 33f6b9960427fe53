"""One outcome: the same everywhere, with its picks, and bounded."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import (
    DIALECTS,
    Library,
    Pick,
    WildcardError,
    batch,
    count,
    enumerate_outcomes,
    expand,
    find_dialect,
    probabilities,
)
from luna_collection.utils.wildcards.sampler import MAX_STEPS


def count_braces(text: str) -> int:
    """Return how deep braces that are closed are nested, in texts that open all of them first."""
    return min(text.count("{"), text.count("}")) if "}" in text else 0


def library_of(folder: Path, **files: str) -> Library:
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text, "utf-8")
    return Library([folder])


class TestSeeds:
    # These were drawn once. They are what people have in the metadata of their images: never change them.
    GOLDEN = {
        ("{a|b|c|d} {1-100} {0.5-1.5:0.1}", 0): "d 76 0.9",
        ("{a|b|c|d} {1-100} {0.5-1.5:0.1}", 1): "a 85 1.3",
        ("{a|b|c|d} {1-100} {0.5-1.5:0.1}", -1): "a 73 0.7",
        ("{a|b|c|d} {1-100} {0.5-1.5:0.1}", 2**64 - 1): "a 34 0.7",
        ("{3::a|2::b|c} {2$$v|w|x|y|z}", 7): "a v, x",
        ("{3::a|2::b|c} {2$$3::v|w|x|y|z}", 8): "a z, v",
    }

    @pytest.mark.parametrize(("text", "seed"), GOLDEN)
    def test_a_seed_gives_what_it_always_gave(self, text, seed):
        assert expand(text, seed).text == self.GOLDEN[text, seed]

    def test_seed_0_is_a_seed(self):
        assert len({expand("{1-1000000}", 0).text for _ in range(5)}) == 1

    def test_negative_seeds_are_seeds_of_their_own(self):
        assert expand("{1-1000000}", -1).text != expand("{1-1000000}", 1).text

    def test_nobody_elses_generator_is_disturbed(self):
        random.seed(5)
        before = random.getstate()
        batch("{a|b} {1-10} {2$$a|b|c}", 0, 10)
        assert random.getstate() == before

    def test_every_item_of_a_batch_can_be_made_alone(self):
        text = "{a|b|c} {@x|y} {!1|2|3} {1-99}"
        items = batch(text, 1000, 12)
        assert [expand(text, item.seed, position=item.position) for item in items] == items
        assert [item.seed for item in items] == list(range(1000, 1012))
        assert len({item.text for item in items}) == 12

    def test_after_the_last_seed_of_nodes_comes_0(self):
        items = batch("{1-1000000}", 2**64 - 2, 4)
        assert [item.seed for item in items] == [2**64 - 2, 2**64 - 1, 0, 1]
        assert [expand("{1-1000000}", item.seed).text for item in items] == [i.text for i in items]

    def test_without_a_position_the_seed_says_whose_turn_it_is(self):
        assert [expand("{@a|b|c}", seed).text for seed in range(4)] == ["a", "b", "c", "a"]

    def test_the_order_of_files_on_disk_does_not_matter(self, tmp_path):
        texts = []
        for order in (("a", "b", "c"), ("c", "a", "b")):
            folder = tmp_path / order[0]
            folder.mkdir()
            for name in order:
                (folder / f"{name}.txt").write_text(f"{name}1\n{name}2\n", "utf-8")
            texts.append([item.text for item in batch("__*__", 0, 20, Library([folder]))])
        assert texts[0] == texts[1]


class TestPicks:
    def test_they_say_what_was_drawn_from_where(self, tmp_path):
        library = library_of(tmp_path, hat_txt="a {red} hat\n", c_yaml="x:\n  y: [blue]\n")
        assert expand("__hat__, {c:x.y}, {3-3}", 0, library).picks == (
            Pick("wildcard", "__hat__", "hat", "a {red} hat", "a {red} hat", "hat.txt", ""),
            Pick("path", "{c:x.y}", "c:x.y", "blue", "blue", "c.yaml", "x.y"),
            Pick("number", "{3-3}", "", "3", "3"),
        )

    def test_those_inside_come_before_those_around_them(self, tmp_path):
        library = library_of(tmp_path, outer_txt="a __inner__ b\n", inner_txt="x\n")
        picks = expand("__outer__", 0, library).picks
        assert [(pick.name, pick.text) for pick in picks] == [("inner", "x"), ("outer", "a x b")]

    def test_options_are_told_as_they_are_written(self):
        text = "{x| big {3-3} }"
        told = {expand(text, seed).picks[-1] for seed in range(30)}
        assert told == {
            Pick("option", text, "", "x", "x"),
            Pick("option", text, "", "big {3-3}", "big 3 "),
        }
        assert [pick.text for pick in expand("{2$$a|b}", 0).picks] in (["a", "b"], ["b", "a"])
        (pick,) = expand("{" + "|".join(map(str, range(10_000))) + "}", 0).picks
        assert len(pick.source) <= 300

    def test_combinations_are_told_like_draws(self, tmp_path):
        library = library_of(tmp_path, hat_txt="red {cap|hood}\n")
        item = expand("__!hat__ {!x|y} {!2$$a|b} __!{hat|hat}__", 5, library)
        told = [(pick.kind, pick.name, pick.text, pick.file) for pick in item.picks]
        first, last = (text for kind, _, text, _ in told if kind == "wildcard")
        assert item.text.startswith(first)
        assert item.text.endswith(last)
        assert {kind for kind, *_ in told} == {"option", "wildcard"}
        assert {file for kind, _, _, file in told if kind == "wildcard"} == {"hat.txt"}
        assert len(told) == 2 + 1 + 2 + 2

    def test_a_template_names_its_file(self, tmp_path):
        library = library_of(tmp_path, c_yaml="templates: ['[x] man']\nx: [tall]\n")
        assert [pick[:3] for pick in expand("{c}", 0, library).picks] == [
            ("path", "[x]", "c.yaml:x"),
            ("template", "{c}", "c"),
        ]


class TestLimits:
    def test_values_that_multiply_are_stopped(self, tmp_path):
        files = {f"a{n}_txt": f"__a{n + 1}__ __a{n + 1}__ __a{n + 1}__\n" for n in range(30)}
        library = library_of(tmp_path, **files, a30_txt="x\n")
        with pytest.raises(WildcardError, match=f"more than {MAX_STEPS} draws"):
            expand("__a0__", 0, library)
        assert count("__a0__", library) == 1

    def test_outcomes_that_multiply_are_only_counted(self, tmp_path):
        files = {f"a{n}_txt": f"__a{n + 1}__ __a{n + 1}__\n" for n in range(12)}
        library = library_of(tmp_path, **files, a12_txt="x\ny\n")
        assert count("__a0__", library) == 2 ** (2**12)

    def test_a_chain_that_is_too_long_is_an_error_that_shows_it(self, tmp_path):
        files = {f"a{n}_txt": f"{n} __a{n + 1}__\n" for n in range(200)}
        library = library_of(tmp_path, **files, a200_txt="x\n")
        for call in (lambda: expand("__a0__", 0, library), lambda: count("__a0__", library)):
            with pytest.raises(WildcardError, match="deep"):
                call()
        with pytest.raises(WildcardError, match="0 __a1__ → 1 __a2__"):
            expand("__a0__", 0, library)

    def test_rings_end_and_say_so(self, tmp_path):
        library = library_of(tmp_path, a_txt="1 __b__\n", b_txt="2 __a__\n")
        item = expand("__a__", 0, library)
        assert item.text == "1 2 __a__"
        assert str(item.warnings[0]) == (
            "b.txt:1: __a__ leads back to itself (1 __b__ → 2 __a__ → 1 __b__), so it stays in the text."
        )
        assert count("__a__", library) == 1
        assert probabilities("__a__", library) == {"1 2 __a__": 1.0}

    def test_values_that_name_their_own_list_come_to_an_end(self, tmp_path):
        library = library_of(tmp_path, a_txt="cat\ndog\n__a__ and __a__\n")
        assert probabilities("__a__", library) == pytest.approx(
            {
                "cat": 1 / 3,
                "dog": 1 / 3,
                **{f"{x} and {y}": 1 / 12 for x in ("cat", "dog") for y in ("cat", "dog")},
            }
        )
        assert count("__a__", library) == 6

    def test_variables_that_name_each_other_come_to_an_end(self):
        item = expand("${a=${b}}${b=${a}}${a}", 0)
        assert item.text == "${a}"
        assert "the variable 'a' is not set here" in str(item.warnings[0])

    def test_variables_that_double_are_stopped(self):
        doubling = "${a=!xxxxxxxxxx}" + "${a=!${a}${a}}" * 40
        with pytest.raises(WildcardError, match="grows beyond"):
            expand(f"{doubling}${{a}}", 0)

    def test_braces_that_are_nested_too_deep_are_an_error(self):
        with pytest.raises(WildcardError, match="nested more than 50 deep"):
            expand("{" * 60 + "a|b" + "}" * 60, 0)

    def test_depth_through_braces_and_files_is_bounded(self, tmp_path):
        nested = "{x|" * 45 + "{}" + "}" * 45
        files = {
            f"a{n}_txt": nested.format(f"__a{n + 1}__")
            if False
            else nested.replace("{}", f"__a{n + 1}__")
            for n in range(40)
        }
        library = library_of(tmp_path, **files, a40_txt="x\n")
        for call in (count, probabilities):
            with pytest.raises(WildcardError):
                call("__a0__", library)

    def test_texts_that_are_too_long_are_an_error(self):
        with pytest.raises(WildcardError, match="1000001 characters"):
            expand("{" + "a" * 1_000_000, 0)

    def test_too_many_outcomes_are_an_error(self):
        with pytest.raises(WildcardError, match="more than 100 outcomes"):
            probabilities("{1-1000}", limit=100)
        with pytest.raises(WildcardError, match="more than 100 outcomes"):
            probabilities("{a|b}" * 50, limit=100)


class TestOutcomes:
    def test_they_are_listed_without_going_through_those_before(self):
        text = " ".join(["{a|b|c|d|e|f|g|h|i|j}"] * 12)
        assert count(text) == 10**12
        assert next(enumerate_outcomes(text, start=10**12 - 1)) == " ".join("j" * 12)
        assert list(enumerate_outcomes(text, start=10**12)) == []

    def test_the_last_part_changes_fastest(self):
        assert list(enumerate_outcomes("{a|b} {1-2}")) == ["a 1", "a 2", "b 1", "b 2"]

    def test_a_variable_that_decides_about_names_is_gone_through(self, tmp_path):
        library = library_of(tmp_path, cat_txt="tabby\nsiamese\n", dog_txt="beagle\n")
        text = "${x=!{cat|dog}}${x}: __${x}__"
        expected = ["cat: tabby", "cat: siamese", "dog: beagle"]
        assert list(enumerate_outcomes(text, library)) == expected
        assert probabilities(text, library) == {
            "dog: beagle": 0.5,
            "cat: siamese": 0.25,
            "cat: tabby": 0.25,
        }

    def test_weights_are_probabilities(self):
        assert probabilities("{3::a|b|{c|d}}") == pytest.approx(
            {"a": 0.6, "b": 0.2, "c": 0.1, "d": 0.1}
        )

    def test_several_are_drawn_one_after_the_other(self):
        assert probabilities("{2$$2::a|b|c}") == pytest.approx(
            {
                "a, b": 0.25,
                "a, c": 0.25,
                "b, a": 1 / 6,
                "b, c": 1 / 12,
                "c, a": 1 / 6,
                "c, b": 1 / 12,
            }
        )


class TestHostileTexts:
    """None of these may take long: the parser goes over a text once, whatever is in it."""

    @pytest.mark.parametrize(
        "text",
        [
            *("{" * 200_000, "}" * 200_000, "|" * 200_000, "__" * 100_000, "_" * 200_001),
            *("__a(" * 50_000, "__a{" * 50_000, "__{" * 50_000, "${" * 100_000, "${x=" * 50_000),
            *("%{" * 100_000, "<lora:" * 30_000, "[" * 200_000, "\\" * 200_000, "#" * 200_000),
            *("# " * 100_000, " #" * 100_000, "1#" * 100_000, "1#__" * 50_000, "{1$$" * 50_000),
            *(
                " " * 200_000 + "{",
                "{" + " " * 200_000 + "}",
                "{a:" + "[" * 100_000 + "}",
                "a:" * 100_000,
            ),
            *(
                "{1-" + "1" * 100_000 + "}",
                "{0." + "0" * 100_000 + "1::a|b}",
                "," * 200_000,
                " ," * 100_000,
            ),
            *(
                "{a|" + "b|" * 100_000 + "}",
                "__" + "*" * 100_000 + "__",
                "<" * 200_000,
                "\n" * 200_000,
            ),
            *(
                "__a(x=" * 20 + ")__" * 20,
                "{a b:" * 49 + "x" + "}" * 49,
                "{a:[" * 49 + "x" + "]}" * 49,
            ),
            *(
                "${x:" * 49 + "y" + "}" * 49,
                "%{" * 49 + "$$x" + "}" * 49,
                "__a(x={" * 49 + "})__" * 49,
            ),
        ],
        ids=lambda text: text[:12],
    )
    @pytest.mark.parametrize("name", DIALECTS)
    def test_they_are_read_in_one_go(self, text, name):
        refused = count_braces(text) > 50
        with pytest.raises(WildcardError, match="nested") if refused else nullcontext():
            expand(text, 0, dialect=DIALECTS[name])

    def test_patterns_in_names_take_no_longer(self, tmp_path):
        library = library_of(tmp_path, **{f"{'a' * 100}{n}_txt": "x" for n in range(20)})
        expand(f"__{'*a' * 100}b__ __{'**/' * 100}b__", 0, library)


def test_a_dialect_that_there_is_not_is_answered_with_those_that_there_are():
    with pytest.raises(WildcardError, match=r"luna, dynamicprompts, impact, a1111-safe"):
        find_dialect("lunar")


def test_warnings_of_a_batch_belong_to_their_items(tmp_path):
    library = library_of(tmp_path, bad_txt="x\0y")
    text = "{@__bad__|fine|__nowhere__}"
    found = [
        [str(warning).split(":")[0] for warning in item.warnings]
        for item in batch(text, 0, 6, library)
    ]
    assert found == [["bad.txt", "line 1"], [], ["line 1"]] * 2
    for item in batch(text, 0, 6, library):
        assert expand(text, item.seed, library, position=item.position) == item


def test_a_library_forgets_what_it_read_first_when_it_holds_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("luna_collection.utils.wildcards.library.MAX_HELD_BYTES", 10_000)
    library = library_of(tmp_path, **{f"f{n}_txt": f"{n}\n" * 1000 for n in range(30)})
    for number in range(30):
        assert expand(f"__f{number}__", 0, library).text == str(number)
    assert sum(known.signature[1] for known in library._files.values()) <= 10_000

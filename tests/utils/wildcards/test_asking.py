"""What programs and the page ask of the engine: what is let through, and that answers come in time."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import Library, count, expand
from luna_collection.utils.wildcards.asking import FIELDS, read_page, read_question
from luna_collection.utils.wildcards.deadline import Deadline
from luna_collection.utils.wildcards.different import different
from luna_collection.utils.wildcards.errors import WildcardError
from luna_collection.utils.wildcards.paths import files_of, paths_of
from luna_collection.utils.wildcards.preview import LARGEST_EXACT, Question, in_words, preview
from luna_collection.utils.wildcards.report import shown


def ask(**fields: object) -> bytes:
    return json.dumps(fields).encode()


class TestQuestions:
    def test_all_fields(self):
        asked = read_question(
            ask(text="{a|b}", seed=0, count=20, dialect="impact", position=3, yaml_directory="sub")
        )
        assert asked.question == Question("{a|b}", 0, 20, 3)
        assert asked.dialect.name == "impact"
        assert asked.directories == ("sub", "")

    def test_only_the_text_is_needed(self):
        asked = read_question(ask(text=""))
        assert asked.question == Question("", 0, 1, None)
        assert asked.dialect.name == "luna"

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"{", "no JSON"),
            (b"[" * 100_000, "no JSON"),
            (b"[]", "no JSON object"),
            (b"\xff", "no JSON"),
            (ask(), "'text' has to be a text"),
            (ask(text=1), "'text' has to be a text"),
            (ask(text="x" * 100_001), "up to 100000"),
            (ask(text="x", seed="1"), "'seed' has to be"),
            (ask(text="x", seed=True), "'seed' has to be"),
            (ask(text="x", seed=1.0), "'seed' has to be"),
            (ask(text="x", seed=2**65), "'seed' has to be"),
            (ask(text="x", count=0), "'count' has to be"),
            (ask(text="x", count=101), "'count' has to be"),
            (ask(text="x", dialect="latin"), "no dialect 'latin'"),
            (ask(text="x", dialect=None), "'dialect' has to be a text"),
            (ask(text="x", folder="y"), "no field 'folder'"),
            (ask(text="x", yaml_directory=[]), "'yaml_directory' has to be a text"),
        ],
    )  # fmt: skip
    def test_others_are_refused_in_words(self, body, said):
        with pytest.raises(WildcardError, match=said):
            read_question(body)

    def test_pages(self):
        asked = read_page({"start": "a/", "offset": "20", "limit": "10"})
        assert (asked.start, asked.offset, asked.limit) == ("a/", 20, 10)
        assert read_page({}).limit == 100
        for query in ({"offset": "-1"}, {"limit": "0"}, {"limit": "1001"}, {"limit": "x"},
                      {"offset": "٣"}, {"offset": "9" * 5000}, {"page": "1"}):  # fmt: skip
            with pytest.raises(WildcardError):
                read_page(query)


class TestAnswers:
    def test_texts_are_those_of_single_runs(self):
        text = "{a|b|c} {@x|y} {1-100}"
        told = preview(Question(text, 7, 5))
        assert told["texts"] == [expand(text, 7 + item).text for item in range(5)]
        kinds = [[pick["kind"] for pick in picks] for picks in told["picks"]]
        assert kinds == [["option", "option", "number"]] * 5
        assert told["combinations"] == 600
        assert told["combinations_text"] == "600"

    def test_after_the_last_seed_comes_the_first(self):
        text = "{a|b|c|d|e} {@x|y|z} {1-1000}"
        told = preview(Question(text, 2**64 - 2, 4))
        seeds = [2**64 - 2, 2**64 - 1, 0, 1]
        assert told["texts"] == [expand(text, seed).text for seed in seeds]

    def test_a_position_of_its_own(self):
        assert preview(Question("{@a|b|c}", 7, 3, 0))["texts"] == ["a", "b", "c"]

    def test_warnings_come_once(self):
        told = preview(Question("__nothing__", 0, 4))
        assert len(told["warnings"]) == 1
        assert json.loads(json.dumps(told)) == told

    def test_numbers_are_written_for_people(self):
        told = {
            0: "0",
            1234: "1 234",
            10**15 - 1: "999 999 999 999 999",
            10**15: "about 1.0 × 10^15",
            2 * 10**15 - 1: "about 1.9 × 10^15",
            2**200_000: "about 9.9 × 10^60205",
        }
        for number, words in told.items():
            assert in_words(number) == words

    def test_a_number_that_a_page_cannot_hold_is_only_told(self):
        text = "{1-2}" * 53
        assert count(text) == LARGEST_EXACT + 1
        told = preview(Question(text, 0, 1))
        assert told["combinations"] is None
        assert told["combinations_text"] == "about 9.0 × 10^15"


def bombs(folder: Path) -> Library:
    """Files of which a few letters become more than any computer has room for."""
    for number in range(25):
        lines = f"{f'__c{number + 1}__ ' * 20}\nx"
        (folder / f"c{number}.txt").write_text(lines)
    (folder / "c25.txt").write_text("a\nb")
    (folder / "many.txt").write_text("\n".join(f"v{number}" for number in range(50_000)))
    return Library([folder])


class TestBombs:
    @pytest.mark.parametrize(
        "text",
        ["__c0__", "{1-$$__many__}", "{5000$$__many__}", "{1-9}" * 15_000,
         "{!5000$$__many__}", "${a={1-9}{1-9}}" + "".join(
             f"${{{chr(98 + i)}=${{{chr(97 + i)}}}${{{chr(97 + i)}}}}}" for i in range(24)) + "${y}"],
    )  # fmt: skip
    def test_are_not_counted_and_drawn_only_as_far_as_is_well(self, tmp_path, text):
        library = bombs(tmp_path)
        if text == "{" + "1-9}{" * 14_999 + "1-9}":
            assert count(text, library) == 9**15_000
        else:
            with pytest.raises(WildcardError, match=r"too many ways|more outcomes than"):
                count(text, library)
        if text in ("__c0__", "{!5000$$__many__}") or text.startswith("$"):
            with pytest.raises(WildcardError, match=r"more than 100000 draws|too many ways"):
                expand(text, 1, library)
        else:
            assert expand(text, 1, library).text

    def test_a_deadline_ends_sampling_and_counting(self, tmp_path):
        library = bombs(tmp_path)
        over = Deadline(-1.0)
        with pytest.raises(WildcardError, match="takes longer"):
            count("{a|b}" * 300, library, deadline=over)
        with pytest.raises(WildcardError, match="takes longer"):
            preview(Question("{a|{b|c}}" * 600, 1, 3), seconds=-1.0)

    def test_texts_that_are_ready_are_told_when_the_time_is_over(self, monkeypatch):
        ticks = iter(range(10_000))
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks) * 1.0)
        told = preview(Question("{a|b}" * 300, 1, 20), seconds=8.0)
        assert 0 < len(told["texts"]) < 20
        assert "and those after it are missing" in told["warnings"][0]
        assert "takes longer than 8 s" in told["warnings"][0]


class TestDifferent:
    def test_each_can_be_made_again_on_its_own(self):
        text = "{a|b} {1-3} {@x|y}"
        outcomes, remarks = different(text, 5, 8)
        assert remarks == ()
        assert len({outcome.text for outcome in outcomes}) == 8
        for outcome in outcomes:
            assert expand(text, outcome.seed, position=outcome.position).text == outcome.text

    def test_the_first_ones_are_those_of_a_batch_with_repeats(self):
        outcomes, _ = different("{1-1000000}", 5, 4)
        assert [outcome.seed for outcome in outcomes] == [5, 6, 7, 8]

    def test_their_seeds_are_those_of_nodes(self):
        outcomes, _ = different("{a|b|c}", 2**64 - 1, 3)
        assert all(0 <= outcome.seed < 2**64 for outcome in outcomes)
        assert len({expand("{a|b|c}", outcome.seed).text for outcome in outcomes}) == 3

    def test_fewer_are_said(self):
        outcomes, (remark,) = different("{a|b}", 0, 1000)
        assert {outcome.text for outcome in outcomes} == {"a", "b"}
        assert "only 2 of 1000" in remark.message

    def test_combinations_in_turn_are_all_found(self):
        outcomes, remarks = different("{!a|b|c} {!1|2|3|4}", 3, 12)
        assert len(outcomes) == 12
        assert remarks == ()


class TestPaths:
    def test_lists_branches_and_single_values(self, tmp_path):
        (tmp_path / "x.yaml").write_text(
            "templates: {t: ['[a]']}\na: [1, 2]\nb: {c: {d: [x, y, z]}, e: one}\n"
        )
        document = Library([tmp_path]).document("x", [])
        assert document is not None
        assert paths_of(document, 4, counts=True)[3:] == [
            "a [2 items]", "b.c.d [3 items]", "b.c/ (3 items)", "b.e = one", "b/ (4 items)",
            "templates.t = [a]", "templates/ (1 items)",
        ]  # fmt: skip
        assert paths_of(document, 1, counts=False)[3:] == ["a", "b/", "templates/"]

    def test_a_file_that_is_a_list(self, tmp_path):
        (tmp_path / "x.yaml").write_text("[a, b]")
        document = Library([tmp_path]).document("x", [])
        assert document is not None
        assert paths_of(document, 4, counts=True)[-1] == "(a list) [2 items]"

    def test_files_in_part(self, tmp_path):
        for number in range(5):
            (tmp_path / f"f{number}.txt").touch()
        page = Library([tmp_path]).index(limit=2)
        assert files_of(page) == ["# 5 files", "f0  (f0.txt)", "f1  (f1.txt)", "# … and 3 more"]


def test_what_is_shown_ends_somewhere():
    assert shown(["a"], []) == "a"
    lines = shown(["a"], [f"w{number}" for number in range(30)]).splitlines()
    assert lines[:4] == ["a", "", "Warnings:", "  w0"]
    assert lines[-1] == "  … and 10 more"


class TestThePage:
    PAGE = Path(__file__).resolve().parents[3] / "docs" / "wildcard_nodes.md"

    def test_its_question_is_one(self):
        (body,) = re.findall(r"-d '(\{.*?\})'$", self.PAGE.read_text("utf-8"), re.MULTILINE)
        told = preview(read_question(body.encode()).question)
        assert len(told["texts"]) == 3
        assert told["combinations"] == 4

    def test_it_names_every_field(self):
        text = self.PAGE.read_text("utf-8")
        for name in (*FIELDS, *preview(Question("x", 0, 1))):
            assert f"`{name}`" in text

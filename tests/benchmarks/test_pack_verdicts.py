from __future__ import annotations

import pytest
from luna_collection.benchmarks.packs_area import verdicts
from luna_collection.benchmarks.packs_area.command import Outcome, main, table_of
from luna_collection.benchmarks.packs_area.verdicts import Run, Verdict, judge


def difference(ours: object, stock: object) -> str:
    return "" if ours == stock else "[0]"


FAILED, REFUSED = Run(error="KeyError: 'g'"), Run(error="EditNotSharedError: …", is_sentence=True)


@pytest.mark.parametrize(
    ("stock", "ours", "again", "kind"),
    [
        (Run(1), Run(1), Run(2), verdicts.EQUAL),
        (Run(1), Run(2), Run(1), verdicts.DIFFERENT),
        (Run(1), Run(2), Run(3), verdicts.UNSTEADY),
        (Run(1), Run(2), FAILED, verdicts.UNSTEADY),
        (Run(1), REFUSED, Run(1), verdicts.SENTENCE),
        (Run(1), FAILED, Run(1), verdicts.BROKEN),
        (FAILED, FAILED, FAILED, verdicts.FAILS_ALIKE),
        (FAILED, REFUSED, FAILED, verdicts.FAILS_ALIKE),
        (FAILED, Run(1), FAILED, verdicts.BROKEN),
        (FAILED, Run(1), Run(1), verdicts.UNSTEADY),
    ],
)
def test_a_pair_of_runs_is_judged(stock, ours, again, kind):
    assert judge(stock, ours, lambda: again, difference).kind == kind


def test_only_what_must_not_be_is_bad():
    for kind in verdicts.ALL:
        outcome = Outcome("pack", "error", cases=[("node", Verdict(kind))])
        assert outcome.is_bad == (kind in ("DIFFERENT", "BROKEN", "ENDED"))


def test_a_pack_that_was_not_compared_is_bad():
    assert Outcome("pack", "error", failed="No module named 'x'").is_bad


def test_every_kind_has_its_meaning():
    assert set(verdicts.MEANINGS) == set(verdicts.ALL)


def test_the_table_shows_the_kinds_that_there_are():
    equal, other = Verdict(verdicts.EQUAL), Verdict(verdicts.DIFFERENT, "[0]")
    outcomes = [
        Outcome("one", "error", cases=[("a", equal), ("b", equal)]),
        Outcome("two", "local", cases=[("c", other)], failed="No module named 'x'"),
    ]
    table = table_of(outcomes)
    assert [column.header for column in table.columns] == ["pack", "policy", "equal", "DIFFERENT"]
    assert [list(column.cells) for column in table.columns] == [
        ["one", "two (not loaded)"],
        ["error", "local"],
        ["2", ""],
        ["", "1"],
    ]


def test_a_folder_that_is_not_there_is_said(capsys, tmp_path):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().out

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.sweeps.combining import SweepMode, run_of, shuffled
from luna_collection.utils.sweeps.parameters import Parameter, parse_parameters

PARAMETERS = parse_parameters("cfg: 4..5:0.5\nsteps: 20, 30\nstyle: oil, 'ink, wash'")
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def parameters(lengths: list[int]) -> list[Parameter]:
    return [Parameter(f"p{place}", tuple(range(size))) for place, size in enumerate(lengths)]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a: 1, 2.0, -3, .5", (1, 2.0, -3, 0.5)),
        ("a: true, False, yes", (True, False, "yes")),
        ("a: 1..4", (1, 2, 3, 4)),
        ("a: 4..1:2", (4, 2)),
        ("a: 0..0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("a: 1..2:0.5, 9", (1.0, 1.5, 2.0, 9)),
        ("a: -1..1", (-1, 0, 1)),
        ("a: 5..5", (5,)),
        ("a: 'it''s'", None),
        (r'a: "x, \"y\"", z: w', ('x, "y"', "z: w")),
        ("a: 18446744073709551615", (2**64 - 1,)),
        ("a: 1e5, 1..", ("1e5", "1..")),
        ("a: 'one'", ("one",)),
        ("a: x,,y,", ("x", "y")),
    ],
)
def test_lines(line, values):
    if values is None:
        with pytest.raises(InputError, match="Line 1"):
            parse_parameters(line)
        return
    (parameter,) = parse_parameters(f"# comment\n\n{line}\n")
    assert parameter.values == values
    assert [type(value) for value in parameter.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no values to sweep"),
        ("a: 1..1e12:1", "is no range of numbers"),
        ("a: 1..x", "is no range of numbers"),
        ("a: 1\nb", "Line 2 .* name and a colon"),
        ("a: 1\n\na: 2", "Line 3 .* 'a' is there already"),
        ("a:", "no values"),
        ("a: 1..2:0", "step of 0"),
        ("a: 1..1000000", "1000000 values"),
        ('a: "x', "do not enclose it"),
        ("1: 2", "name and a colon"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    with pytest.raises(InputError, match=said):
        parse_parameters(text)


@given(st.text("ab:,.'\"1 \n-", max_size=60))
def test_any_text_gives_values_or_an_error_in_words(text):
    with contextlib.suppress(InputError):
        assert all(parameter.values for parameter in parse_parameters(text))


@given(lengths=LENGTHS, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("mode", [SweepMode.COMBINATORIAL, SweepMode.RANDOM])
def test_every_combination_comes_once(mode, lengths, seed):
    listed = parameters(lengths)
    total = run_of(listed, mode, 0).total
    runs = [tuple(run_of(listed, mode, index, 0, seed).values.values()) for index in range(total)]
    every = list(itertools.product(*(range(length) for length in lengths)))
    assert sorted(runs) == every
    if mode is SweepMode.COMBINATORIAL:
        assert runs == every


@given(lengths=LENGTHS)
def test_side_by_side_every_value_comes(lengths):
    listed = parameters(lengths)
    total = run_of(listed, SweepMode.CYCLICAL, 0).total
    assert total == max(lengths)
    runs = [run_of(listed, SweepMode.CYCLICAL, index).values for index in range(total)]
    for place, length in enumerate(lengths):
        assert [run[f"p{place}"] for run in runs] == [index % length for index in range(total)]


def test_a_count_cuts_or_goes_round():
    assert run_of(PARAMETERS, SweepMode.COMBINATORIAL, 5, 3).index == 2
    assert run_of(PARAMETERS, SweepMode.COMBINATORIAL, 2, 3).complete
    first, again = (run_of(PARAMETERS, SweepMode.COMBINATORIAL, index, 20) for index in (0, 12))
    assert first.values == again.values
    shuffles = [
        [
            run_of(PARAMETERS, SweepMode.RANDOM, turn * 12 + place, 24, 5).label
            for place in range(12)
        ]
        for turn in range(2)
    ]
    assert sorted(shuffles[0]) == sorted(shuffles[1])
    assert shuffles[0] != shuffles[1]
    with pytest.raises(InputError, match="-1 runs"):
        run_of(PARAMETERS, SweepMode.RANDOM, 0, -1)


def test_a_label():
    run = run_of(PARAMETERS, SweepMode.COMBINATORIAL, 3)
    assert run.label == "cfg=4.0, steps=30, style=ink, wash"
    assert (run.index, run.total, run.complete) == (3, 12, False)


def test_many_combinations_need_no_memory():
    listed = parse_parameters("\n".join(f"{name}: 0..9999" for name in "abcdef"))
    total = 10**24
    run = run_of(listed, SweepMode.RANDOM, total - 1)
    assert (run.total, run.complete) == (total, True)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100])
def test_shuffling_is_one_to_one(size):
    assert sorted(shuffled(place, size, "key") for place in range(size)) == list(range(size))


def test_shuffling_is_even():
    firsts = Counter(shuffled(0, 6, str(seed)) for seed in range(3000))
    assert sum((firsts[place] - 500) ** 2 / 500 for place in range(6)) < 25

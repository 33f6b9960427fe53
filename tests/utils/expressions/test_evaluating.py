from __future__ import annotations

import contextlib
import copy
import math
import warnings

import pytest
import simpleeval
from hypothesis import example, given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.expressions.errors import BadValueError, ExpressionError
from luna_collection.utils.expressions.evaluating import evaluate
from luna_collection.utils.expressions.functions import FUNCTION_NAMES
from luna_collection.utils.expressions.values import Sizes, sizes_of

PICTURE = Sizes(100, 50, 2, 3, (2, 50, 100, 3))
VALUES = {"a": 7, "b": 2.5, "s": "text", "t": True, "p": PICTURE, "l": (1, 2, 3)}


def value(source: str, seed: int = 0) -> object:
    return evaluate(source, VALUES, seed)[""]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a + b * 2", 12.0),
        ("-7 // 2", -4),
        ("7 % 4 ** 2", 7),
        ("2 ** -1", 0.5),
        ("p.width * 2 + p.height", 250),
        ("(p.batch, p.channels, p.ratio, p.shape[1])", (2, 3, 2.0, 50)),
        ("ceil_to(p.width, 64)", 128),
        ("floor_to(p.width, 64)", 64),
        ("round_to(96, 64)", 128),
        ("ceil_to(2 ** 80 + 1, 2)", 2**80 + 2),
        ("floor_to(1.3, 0.5)", 1.0),
        ("clamp(a, 0, 5)", 5),
        ("clamp(a, 5, 0)", 5),
        ("lerp(10, 20, 0.25)", 12.5),
        ("choose(4, 'x', 'y', 'z')", "y"),
        ("choose(-1, l)", 3),
        ("s + str(a) + 'x' * 2", "text7xx"),
        ("upper(s)[1:3]", "EX"),
        ("join(split('b , a'), '-')", "b-a"),
        ("replace(s, 't', 'T')", "TexT"),
        ("pad(a, 3)", "007"),
        ("int('12') + int(2.9) + int('3.7')", 17),
        ("round(2.567, 1)", 2.6),
        ("'ex' in s and 2 in l and not 5 in l", True),
        ("1 < 2 < 3 != 4", True),
        ("1 if a > 10 else 2", 2),
        ("false or 0 or 'x'", "x"),
        ("true and 0 and 1 / 0", 0),
        ("max(l) + min(4, 2) + sum(l) + len(s)", 15),
        ("none == 5", False),
        ("t + 1", 2),
        ("sqrt(16) + abs(-1) + sign(-3.5)", 4.0),
        ("pi < tau", True),
        ("w = ceil_to(p.width, 64)\nh = w // 2  # half\n(w + h)", 192),
        ("  a\n", 7),
    ],
)
def test_what_it_computes(source, expected):
    found = value(source)
    assert found == expected
    assert type(found) is type(expected)


def test_lines_that_name_things():
    found = evaluate("x = a * 2\nint = x + 1\nx + 0.5", VALUES)
    assert found == {"x": 14, "int": 15, "": 14.5}


@pytest.mark.parametrize(
    ("source", "why", "marks"),
    [
        ("a + zz", "there is no value 'zz'", "zz"),
        ("a + c", "nothing is connected with the input 'c'", "c"),
        ("1 + p.widht", "Did you mean 'width'?", "p.widht"),
        ("'ä' + ceil_too(1)", "Did you mean 'ceil_to'?", "ceil_too(1)"),
        ("ceil + 1", "ceil is a function", "ceil"),
        ("2 * (a / 0)", "divides by zero", "a / 0"),
        ("x = 1\ny = x + s", "In line 2, column 5", "x + s"),
        ("s - 1", "a text is no number", "s - 1"),
        ("1 ^ 2", "Write ** for a power", "1 ^ 2"),
        ("1 < s", "have no order", "1 < s"),
        ("s[9]", "no part 9: it has 4", "s[9]"),
        ("clamp(1)", "clamp does not take 1 arguments", "clamp(1)"),
        ("sqrt(-1)", "sqrt cannot work with this value", "sqrt(-1)"),
        ("(-8) ** (1 / 3)", "no such root", "(-8) ** (1 / 3)"),
        ("round_to(1, 0)", "Use a step above 0", "round_to(1, 0)"),
        ("a +", "it cannot be read", ""),
        ("", "there is none", ""),
        ("# a note", "there is none", ""),
        ("a is b", "Write == or !=", "a is b"),
        ("s.upper()", "Write upper(a)", "s.upper()"),
        ("max(1, *l)", "one after the other", "*l"),
        ("rand(low=1)", "without names", "low=1"),
        ("a = b = 1", "only a name", "a"),
        ("(a,\n b, zz)", "In line 2, column 5", "zz"),
    ],
)
def test_what_is_wrong_is_shown_with_its_place(source, why, marks):
    with pytest.raises(ExpressionError) as caught:
        value(source)
    assert why in str(caught.value)
    if marks:
        _, written, caret, *_ = caught.value.message.split("\n")
        start = caret.index("^")
        assert written[start : start + caret.count("^")] == marks


@pytest.mark.parametrize(
    "source",
    [
        "9 ** 9 ** 9",
        "10 ** 400 * 1.0",
        "pow(10, 100000)",
        "2 ** 4000 * 2 ** 4000",
        "'x' * 10 ** 9",
        "10 ** 9 * 'x'",
        "replace('a' * 1000, 'a', 'b' * 1000)",
        "join(split('a,' * 5000), 'x' * 1000)",
        "pad(1, 10 ** 9)",
        "split('a', '')",
        "l * 10",
        "(l, l)",
        "'%999999d' % 1",
        "float('inf')",
        "float('nan')",
        "1e308 * 10",
        "int('1e400')",
        "().__class__",
        "s.upper",
        "s.upper()",
        "p.__class__",
        "p.__init__",
        "p.shape.count",
        "p.width.real",
        "p.ratio()",
        "[*l]",
        "__import__('os')",
        "open('x')",
        "eval('1')",
        "(lambda: 1)()",
        "[x for x in l]",
        "{1: 2}",
        "{1, 2}",
        "f'{a}'",
        "b'x'",
        "1j",
        "...",
        "(y := 1)",
        "rand(*l)",
        "rand(low=1)",
        "import os",
        "def f(): 1",
        "while 1: 1",
        "a.b = 1",
        "a += 1",
        "del a",
        "~a",
        "a @ a",
        "a << 10 ** 9",
        "a is a",
        "await a",
        "-" * 5000 + "1",
        "(" * 300 + "1" + ")" * 300,
        "1" + "+1" * 4000,
        "1 if " * 150 + "1" + " else 1" * 150,
        "1" * 9000,
        "x" * 20_000,
        "\0",
    ],
)
def test_hostile_texts_are_refused(source):
    with pytest.raises(ExpressionError):
        value(source)


@pytest.mark.parametrize(
    "source",
    ["7 ** 7 ** 7", "10 ** 1400", "'x' * 10 ** 6", "s * 10 ** 5 + s", "l * 10 ** 5"],
)
def test_limits_that_other_packs_raise_do_not_count(source, monkeypatch):
    monkeypatch.setattr(simpleeval, "MAX_POWER", 10**12)
    monkeypatch.setattr(simpleeval, "MAX_STRING_LENGTH", 10**12)
    with pytest.raises(ExpressionError):
        value(source)


def test_limits_of_other_packs_stay_as_they_are():
    def settings_of_the_process():
        return {
            name: copy.copy(found)
            for name, found in vars(simpleeval).items()
            if name.isupper() and not name.startswith("_")
        }

    before = settings_of_the_process()
    evaluate("x = upper(s) * 2\n(x, p.width, max(l) ** 2)", VALUES)
    assert settings_of_the_process() == before
    assert simpleeval.simple_eval("2 ** 5000") == 2**5000


def test_as_deep_as_it_may_be():
    assert value("-" * 98 + "1") == 1
    with pytest.raises(ExpressionError, match="nested too deeply"):
        value("-" * 110 + "1")


@given(st.text("ab1.,+-*/%()[]'\"=<>! \n_", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_value_or_an_error_in_words(source):
    # Of Python's parser about odd texts, which are errors only in tests.
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore")
        assert "" in evaluate(source, VALUES)


@given(seed=st.integers(0, 2**64 - 1))
def test_chance_is_decided_by_the_seed(seed):
    source = "(rand(), rand(5, 6), randint(1, 6), pick(l))"
    first, second, third, fourth = value(source, seed)  # type: ignore[misc]
    assert (first, second, third, fourth) == value(source, seed)
    assert 0 <= first < 1
    assert 5 <= second < 6
    assert third in range(1, 7)
    assert fourth in (1, 2, 3)
    assert first != second - 5


def test_chance_is_even():
    drawn = [value("randint(1, 6)", seed) for seed in range(3000)]
    assert sum((drawn.count(side) - 500) ** 2 / 500 for side in range(1, 7)) < 25


@example(number=5e-324, step=2)
@example(number=-5e-324, step=2)
@given(
    number=st.floats(-1e6, 1e6) | st.integers(-(10**9), 10**9),
    step=st.integers(1, 1000) | st.sampled_from([0.25, 0.5, 8.0]),
)
def test_multiples(number, step):
    names = {"n": number, "k": step}
    low = evaluate("floor_to(n, k)", names)[""]
    high = evaluate("ceil_to(n, k)", names)[""]
    near = evaluate("round_to(n, k)", names)[""]
    assert isinstance(low, (int, float))
    assert isinstance(high, (int, float))
    assert low <= number <= high
    assert high - low in (0, step)
    assert near in (low, high)
    assert math.fmod(low, step) == 0


def test_sizes_of_tensors():
    assert sizes_of((2, 50, 100, 3), channels_first=False) == PICTURE
    assert sizes_of((2, 50, 100), channels_first=False) == Sizes(100, 50, 2, 1, (2, 50, 100))
    assert sizes_of((50, 100), channels_first=False).batch == 1
    assert sizes_of((1, 16, 8, 4), channels_first=True) == Sizes(4, 8, 1, 16, (1, 16, 8, 4))
    assert sizes_of((1, 16, 5, 8, 4), channels_first=True).width == 4
    with pytest.raises(BadValueError, match="no width"):
        sizes_of((3,), channels_first=False)


def test_every_function_is_on_the_help_page(root):
    page = (root / "js/docs/LunaExpression.md").read_text("utf-8")
    assert [name for name in FUNCTION_NAMES if f"`{name}(" not in page] == []

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.expressions.comparing import Comparison, compare
from luna_collection.utils.expressions.formatting import format_text
from luna_collection.utils.expressions.results import NoSuchTypeError, as_type, results
from luna_collection.utils.expressions.values import Sizes

VALUES = {"a": 7, "b": 2.5, "s": "te}xt", "t": True, "p": Sizes(100, 50, 1, 3, (1, 50, 100, 3))}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a} {b} {s} {t} {p}", "7 2.5 te}xt true 100x50"),
        ("{{{a:03d}}}", "{007}"),
        ("{b * 2:.2f}{'}'}", "5.00}"),
        ("{a:>4}|{a:<4}|{1/3:.1%}", "   7|7   |33.3%"),
        ("{'a:b'[1:]}", ":b"),
        ("{(a, b)}", "7, 2.5"),
        ("no braces\n", "no braces\n"),
        ("", ""),
    ],
)
def test_braces_are_filled(template, text):
    assert format_text(template, VALUES) == text


def test_each_place_draws_for_itself():
    first, second = format_text("{rand()} {rand()}", {}, 5).split()
    assert first != second
    assert format_text("{rand()} {rand()}", {}, 5) == f"{first} {second}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("x\n{a", "Line 2 of the text, at '{a': this brace is not closed"),
        ("a}", "closes nothing"),
        ("{zz}", "no value 'zz'"),
        ("{}", "there is none"),
        ("{a:9999d}", "form '9999d' cannot be used"),
        ("{a:.999f}", "cannot be used"),
        ("{s:d}", "does not fit"),
        ("{p:d}", "cannot be used"),
        ("{a!r}", "cannot be read"),
        ("{'x' * 90000}{'x' * 90000}", "at most 100000"),
        ("{a}" * 501, "more than 500 places"),
    ],
)
def test_what_is_wrong_is_said(template, said):
    with pytest.raises(InputError, match=said):
        format_text(template, VALUES)


@given(st.text(max_size=60))
def test_a_text_with_doubled_braces_comes_out_as_it_was(text):
    assert format_text(text.replace("{", "{{").replace("}", "}}"), {}) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.6, {"int": 3, "float": 2.6, "boolean": True, "string": "2.6"}),
        (True, {"int": 1, "float": 1.0, "boolean": True, "string": "true"}),
        ("12.5", {"int": 12, "float": 12.5, "boolean": True, "string": "12.5"}),
        (2**70, {"int": 2**70, "float": float(2**70), "boolean": True, "string": str(2**70)}),
    ],
)
def test_a_result_as_every_type(value, expected):
    assert results({"": value}) == expected


def test_named_results_go_to_their_outputs():
    found = results({"": 5, "string": "five", "int": 2.4})
    assert found == {"int": 2, "float": 5.0, "boolean": True, "string": "five"}


@pytest.mark.parametrize("value", ["abc", None, (1, 2), "nan", 10**400])
def test_what_is_no_number_is_an_error_for_who_asks(value):
    found = results({"": value})
    assert isinstance(found["float"], NoSuchTypeError)
    assert found["string"] == as_type("string", value)


def test_a_whole_number_may_be_too_large_for_a_fraction():
    found = results({"": 10**400})
    assert found["int"] == 10**400
    assert "is too large" in str(found["float"])


@given(
    left=st.integers() | st.floats(allow_nan=False) | st.text(),
    right=st.integers() | st.floats(allow_nan=False) | st.text(),
)
def test_comparisons_fit_together(left, right):
    def ask(how: Comparison) -> bool:
        return compare(left, right, how, 0.0, ignore_case=False)

    assert ask(Comparison.EQUAL) != ask(Comparison.UNEQUAL)
    assert ask(Comparison.EQUAL) == (left == right)
    if isinstance(left, str) != isinstance(right, str):
        with pytest.raises(InputError, match="no order"):
            ask(Comparison.LESS)
        return
    assert ask(Comparison.LESS) + ask(Comparison.EQUAL) + ask(Comparison.GREATER) == 1
    assert ask(Comparison.LESS_OR_EQUAL) == (not ask(Comparison.GREATER))
    assert ask(Comparison.GREATER_OR_EQUAL) == (not ask(Comparison.LESS))


def test_tolerance_capitals_and_parts():
    assert compare(1.0, 1.1, Comparison.EQUAL, 0.2, ignore_case=False)
    assert not compare(1.0, 1.1, Comparison.LESS, 0.2, ignore_case=False)
    assert compare("A", "a", Comparison.EQUAL, 0.0, ignore_case=True)
    assert not compare("A", "a", Comparison.EQUAL, 0.0, ignore_case=False)
    assert compare("A cat", "CAT", Comparison.CONTAINS, 0.0, ignore_case=True)
    assert compare((1, 2), 2, Comparison.CONTAINS, 0.0, ignore_case=False)
    with pytest.raises(InputError, match="cannot contain"):
        compare(1, 2, Comparison.CONTAINS, 0.0, ignore_case=False)

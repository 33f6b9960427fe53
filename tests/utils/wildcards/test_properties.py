"""What holds for every text: made up by hypothesis, in one small folder."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.wildcards import (
    DIALECTS,
    Library,
    WildcardError,
    batch,
    count,
    enumerate_outcomes,
    expand,
    probabilities,
)

FILES = {
    "c.txt": "red\n2::blue\n0::never\n",
    "n.txt": "__c__ thing\n{a|b}\n${v:none}\n",
    "s.txt": "p\nq {2$$__s__}\n{0-1$$__s__}\n",
    "r.txt": "end\n__r__ on\n",
    "d/e.yaml": "templates: ['[x] [y.z]']\nx: [1, 2]\ny: {z: [p, '{q|r}']}\n",
}
words = st.sampled_from(["a", "b", "old ", "x y", "", "(k:1.2)", "<lora:m:0.5>", "[SEP]"])
names = st.sampled_from(
    [
        *("__c__", "__n__", "__r__", "__d/e/x__", "__*__", "__no__", "__n(v=k)__", "{e}"),
        *("{d/e:y.z}", "{d/e: [x]-[y]}", "{1-3}", "{0.5-1:0.25}", "${v}", "${v:k}", "2#__c__"),
        *("{2$$__n__}", "__{c|n}__", "{1-2$$__r__}", "{2$$__{c|n}(v=k)__}", "{2$$__s__}", "__s__"),
    ]
)


def choices(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    heads = st.sampled_from(["", "", "2$$", "1-2$$", "0-1$$ & $$", "-2$$", "~", "1-$$"])
    weights = st.sampled_from(["", "", "2::", "0.5::", "0::"])
    option = st.tuples(weights, parts).map("".join)
    options = st.lists(option, min_size=2, max_size=3).map("|".join)
    return st.tuples(heads, options).map(lambda both: "{" + "".join(both) + "}")


def variables(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(["=", "=!", "?="]), parts).map(
        lambda both: f"${{v{both[0]}{both[1]}}}${{v}}"
    )


texts = st.recursive(
    words | names,
    lambda parts: (
        choices(parts) | variables(parts) | st.lists(parts, min_size=1, max_size=3).map("".join)
    ),
    max_leaves=6,
)
dialects = st.sampled_from(list(DIALECTS.values()))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder: Path = tmp_path_factory.mktemp("wildcards")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return Library([folder])


@settings(max_examples=150, deadline=None)
@given(text=texts, dialect=dialects)
def test_what_is_drawn_counted_listed_and_weighed_is_the_same(library, text, dialect):
    try:
        chances = probabilities(text, library, dialect, limit=300)
    except WildcardError:
        return  # so many that nobody can compare them
    assert math.isclose(sum(chances.values()), 1.0, rel_tol=1e-9)
    drawn = {item.text for item in batch(text, 3, 60, library, dialect)}
    assert drawn <= set(chances)
    number = count(text, library, dialect)
    if number <= 2000:
        listed = list(enumerate_outcomes(text, library, dialect))
        assert len(listed) == number
        assert set(listed) == set(chances)


@settings(max_examples=100, deadline=None)
@given(text=texts, dialect=dialects, seed=st.integers(-(2**64), 2**64))
def test_the_same_seed_gives_the_same(library, text, dialect, seed):
    first = expand(text, seed, library, dialect)
    assert expand(text, seed, library, dialect) == first
    assert expand(text, seed, Library([library._folders[0].path]), dialect) == first


@settings(max_examples=250, deadline=None)
@given(
    text=st.text(alphabet="{}|$_:#~@!%<>[]()\\=?-.,;*0123ab/ \n\t\0é", max_size=60),
    dialect=dialects,
)
def test_any_text_has_an_expansion(library, text, dialect):
    try:
        number = count(text, library, dialect)
        result = expand(text, 0, library, dialect).text
    except WildcardError:
        return
    assert number >= 1
    assert len(result) < 5000


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(
        alphabet=st.characters(
            exclude_characters="{}|$_#%<>\\[]\t ,\n", exclude_categories=["Cs", "Cc", "Z"]
        )
    )
)
@pytest.mark.parametrize("name", DIALECTS)
def test_text_without_forms_stays_as_it_is(text, name):
    assert expand(text, 0, dialect=DIALECTS[name]).text == text


# Texts, and the greatest value of chi-square that 20 000 draws may have at p = 0.001.
@pytest.mark.parametrize(
    "text",
    [
        *("{a|b|c}", "{5::a|3::b|2::c}", "{0.1::a|0.9::b}", "{2$$a|b|c|d}", "{2$$3::a|b|c}"),
        *(
            "{1-3$$a|b|c}",
            "__c__",
            "__n__",
            "__r__",
            "{1-7}",
            "{0-1:0.1}",
            "{1-3$$__c__}",
            "{2$$__n__}",
            "{d/e}",
        ),
        *("${v={a|b}}${v}${v}", "{a|{b|{c|d}}}", "__{c|n}__", "{@a|b} {c|d}", "3#__n__"),
    ],
)
def test_draws_are_as_probable_as_they_should_be(library, text):
    chances = probabilities(text, library)
    draws = 20_000
    drawn = Counter(item.text for item in batch(text, 1, draws, library))
    assert set(drawn) <= set(chances)
    expected = {outcome: chance * draws for outcome, chance in chances.items()}
    distance = sum((drawn[o] - e) ** 2 / e for o, e in expected.items())
    freedom = len(chances) - 1
    # Wilson and Hilferty: chi-square's cube root is nearly normal; 3.72 is p = 0.0001.
    bound = freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3
    assert distance < bound

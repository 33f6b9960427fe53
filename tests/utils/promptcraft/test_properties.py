"""What holds for any library: determinism, closure, weights, and constraints."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.promptcraft import CraftLibrary, count_combinations, craft

WORDS = st.text("abcdefgh", min_size=3, max_size=6)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"text": WORDS, "tags": st.lists(WORDS, max_size=2)},
        optional={
            "blacklist": st.lists(WORDS, max_size=1),
            "whitelist": st.lists(WORDS, max_size=1),
            "weight": st.integers(0, 5),
        },
    ),
    min_size=1,
    max_size=5,
)


def chi_square(seen: Counter[str], expected: dict[str, float]) -> float:
    total, whole = sum(seen.values()), sum(expected.values())
    return sum(
        (seen[text] - total * share / whole) ** 2 / (total * share / whole)
        for text, share in expected.items()
    )


@given(first=ITEMS, second=ITEMS, seed=st.integers(-1, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_the_same_again_and_only_from_the_library(first, second, seed):
    inline = yaml.safe_dump({"one": {"items": first}, "two": second})
    crafted = craft("{one}+{two}", seed, CraftLibrary(inline=inline))
    again = craft("{one}+{two}", seed, CraftLibrary(inline=inline))
    assert crafted.prompt == again.prompt
    left, right = crafted.prompt.split("+")
    assert left in {item["text"] for item in first}
    assert right in {item["text"] for item in second}


@given(
    first=st.lists(WORDS, min_size=1, max_size=4, unique=True),
    second=st.lists(WORDS, min_size=1, max_size=6, unique=True),
    forbidden=st.lists(WORDS, min_size=1, max_size=3),
    wanted=st.lists(st.text("abcdefgh", min_size=1, max_size=2), max_size=2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_constraints_are_kept_unless_nothing_remains(first, second, forbidden, wanted, seed):
    rules = {"one": {"two": {"incompatible": forbidden, "compatible": wanted}}}
    inline = yaml.safe_dump({"one": first, "two": second, "r.constraint": rules})
    right = craft("{one}+{two}", seed, CraftLibrary(inline=inline)).picks[1]
    searched = {text: f"two {text} two_{place}" for place, text in enumerate(second)}

    def fits(text: str, words: list[str]) -> bool:
        return any(word in part for word in words for part in searched[text].split(" "))

    allowed = [text for text in second if not fits(text, forbidden)]
    compatible = [text for text in allowed if fits(text, wanted)]
    assert right.text in (compatible or allowed or second)
    assert right.relaxed == ("" if allowed else "constraints")


@pytest.mark.parametrize(
    "inline",
    [
        "x: ['1::a', '2::b', '7::c']",
        "x: {one: [{value: a}], two: [{value: b, weight: 2}, {value: c, weight: 7}]}",
        "x: {items: [{id: 1, text: a}, {id: 2, text: b, weight: 2}, {id: 3, text: c, weight: 7}]}",
    ],
)
def test_weights_weigh(inline):
    library = CraftLibrary(inline=inline)
    seen = Counter(craft("{x}", seed, library).prompt for seed in range(3000))
    assert chi_square(seen, {"a": 1, "b": 2, "c": 7}) < 13.8  # 0.1 % of two degrees of freedom


def test_weights_of_constraints_weigh_in_their_place_only():
    library = CraftLibrary(
        inline="s: [on, off]\nx: [a1, b2, c3]\n"
        "r.constraint: {'s:s_0': {x: {compatible: ['8::a1', '1::b2', '0::c3']}}}"
    )
    on, off = Counter(), Counter()
    for seed in range(4000):
        switch, found = craft("{s} {x}", seed, library).prompt.split()
        (on if switch == "on" else off)[found] += 1
    assert on["c3"] == 0
    assert chi_square(on, {"a1": 8, "b2": 1}) < 10.8
    assert chi_square(off, {"a1": 1, "b2": 1, "c3": 1}) < 13.8


@pytest.mark.parametrize(
    ("template", "ways"),
    [
        ("nothing", 1),
        ("{a}", 3),
        ("{a} {a:x} {b}", 3 * 2 * 4),
        ("{{a}|{b}|none}", 3 + 4 + 1),
        ("{a} {1-10}", 30),
        ("{c}", 3 + 1),
        ("{pair}", 3 * 4),
        ("{unknown}", 1),
    ],
)
def test_combinations_are_counted(template, ways):
    library = CraftLibrary(
        inline="a: {x: [1, 2], y: [3, '0::never']}\nb: [1, 2, 3, 4]\nc: ['{a}', z]\n"
        "p.chain: {pair: [a, b]}"
    )
    assert count_combinations(template, library) == ways


def test_very_many_combinations_are_counted():
    library = CraftLibrary(inline="a: [" + ", ".join(map(str, range(1000))) + "]")
    assert count_combinations("{a}" * 20, library) == 1000**20

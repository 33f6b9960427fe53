from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.transport.trees import dump_tree, dump_with, load_tree, load_with

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([torch.float16, torch.bool, torch.device("cpu"), torch.device("cuda", 1)])
)
keys = st.text() | st.integers(-9, 9) | st.tuples(st.integers(0, 9), st.text(max_size=3))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
)


def there_and_back(value: Any) -> Any:
    raw, tensors = dump_tree(value)
    return load_tree(raw, tensors)


@given(trees)
def test_a_value_comes_back_with_its_types(value):
    back = there_and_back(value)
    assert back == value
    assert repr(back) == repr(value)  # which tells 1 from 1.0 and True, and lists from tuples


def test_tensors_come_back_in_their_places():
    a, b = torch.rand(2, 3), torch.arange(4)
    raw, tensors = dump_tree({"l": [[(a, 1.5), (7, b)]]})
    assert [t is kept for t, kept in zip(tensors, (a, b), strict=True)] == [True, True]
    back = load_tree(raw, tensors)
    assert back["l"][0][0][0] is a
    assert back["l"][0][1][1] is b


def test_what_is_not_finite_comes_back():
    back = there_and_back([math.inf, -math.inf, math.nan])
    assert back[:2] == [math.inf, -math.inf]
    assert math.isnan(back[2])


def test_numbers_of_other_libraries_become_plain_ones():
    import numpy as np

    back = there_and_back([np.float32(0.5), np.int64(3), np.bool_(True)][:2])
    assert back == [0.5, 3]
    assert [type(value) for value in back] == [float, int]


def test_another_kind_of_value_is_refused_by_name():
    with pytest.raises(BadRequestError, match=r"type builtins\.object cannot be sent"):
        dump_tree([object()])


@pytest.mark.parametrize(
    "text",
    [
        *(
            b'{"x":0}',
            b'{"x":-1}',
            b'{"x":"0"}',
            b'{"z":1}',
            b"{}",
            b'{"a":1,"b":2}',
            b"[",
            b"nope",
        ),
        *(b'{"y":"float1"}', b'{"y":[]}', b'{"v":"nowhere"}', b'{"d":[[1]]}', b'{"d":[[[],1]]}'),
        *(b'{"f":"x"}', b'{"t":1}', b"[" * 100_000),
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(BadRequestError):
        load_tree(msgspec.Raw(text), [])


def test_what_stands_for_a_tensor_is_the_callers_choice():
    tensor = torch.ones(2)
    raw = dump_with([tensor], lambda t: {"b": "digest"})
    assert bytes(raw) == b'[{"b":"digest"}]'
    assert load_with(raw, lambda kind, content: (kind, content)) == [("b", "digest")]

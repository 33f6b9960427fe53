from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.metadata.user_comment import decode_user_comment

TEXT = "a cat, 1girl, 猫 漢字, é\nNegative prompt: blurry\nSteps: 20, Seed: 5"


@pytest.mark.parametrize(
    "data",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"unicode\0" + TEXT.encode("utf-16-be"),
        b"ASCII\0\0\0" + TEXT.encode("utf-8"),
        b"\0" * 8 + TEXT.encode("utf-8") + b"\0",
        b"JIS\0\0\0\0\0" + TEXT.replace("é", "e").encode("iso2022_jp"),
        TEXT,
    ],
)
def test_all_character_sets(data):
    assert decode_user_comment(data).replace("é", "e") == TEXT.replace("é", "e")


def test_what_is_no_utf8_is_latin1():
    assert decode_user_comment(b"\0" * 8 + "Café".encode("latin-1")) == "Café"
    assert decode_user_comment(b"UNICODE\0plain text") == "plain text"
    assert decode_user_comment(b"plain text without header") == "plain text without header"


@given(
    text=st.text("abc XYZ,.0123éß漢字🐈", min_size=1),
    order=st.sampled_from(["utf-16-be", "utf-16-le"]),
)
def test_byte_orders_are_told_apart_by_the_prompt_s_letters(text, order):
    whole = f"a, {text}, b"
    assert decode_user_comment(b"UNICODE\0" + whole.encode(order)) == whole


@given(st.binary(max_size=64))
def test_no_bytes_are_too_strange(data):
    assert isinstance(decode_user_comment(data), str)

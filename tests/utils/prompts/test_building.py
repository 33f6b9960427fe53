"""A prompt from its parts."""

from __future__ import annotations

from luna_collection.utils.prompts.building import Parts, tags_with


def test_parts_come_in_their_order_with_one_comma_between_them():
    parts = Parts("photo, ", "embedding:x", " a hat,", "<lora:a:1> <lora:b:0.5>", "sharp")
    assert parts.full() == "photo, embedding:x, a hat, <lora:a:1> <lora:b:0.5>, sharp"


def test_empty_parts_leave_nothing_behind():
    assert Parts("", " ", "a hat", ",", "").full() == "a hat"
    assert Parts("", "", "", "", "").full() == ""


def test_what_is_inside_a_part_stays_as_it_is():
    assert Parts("", "", "a,, b\nc", "", "").full() == "a,, b\nc"


def test_tags_that_come_in_are_first():
    assert tags_with(" <lora:a:1> ", ["<lora:b:1>", ""]) == "<lora:a:1> <lora:b:1>"
    assert tags_with("", []) == ""

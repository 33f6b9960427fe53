"""Settings of a ComfyUI that decide about values: what is told, and how two of them differ."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

from luna_collection.luna_daemon.numerics import (
    FLAGS,
    differences,
    numerics_of,
    unknown_settings,
)


class Feature(Enum):
    ONE = "fp16_accumulation"
    TWO = "autotune"


def test_only_what_is_set_is_told():
    args = SimpleNamespace(**dict.fromkeys(FLAGS, False), fast=set())
    args.fp16_vae = True
    assert numerics_of(args, comfyui="0.25.0", torch="2.10") == {
        "comfyui": "0.25.0",
        "torch": "2.10",
        "fp16_vae": "on",
    }


def test_the_order_in_which_fast_features_were_named_does_not_count():
    told = [
        numerics_of(SimpleNamespace(fast=fast), comfyui="1", torch="2")
        for fast in ([Feature.ONE, Feature.TWO], {Feature.TWO, Feature.ONE})
    ]
    assert told[0] == told[1]
    assert told[0]["fast"] == "autotune,fp16_accumulation"


def test_a_release_without_a_flag_agrees_with_one_where_it_is_off():
    old = numerics_of(SimpleNamespace(), comfyui="1", torch="2")
    new = numerics_of(SimpleNamespace(**dict.fromkeys(FLAGS, False)), comfyui="1", torch="2")
    assert differences(old, new) == []


def test_differences_name_both_values():
    theirs = {"comfyui": "0.25.0", "torch": "2.9.1", "fp16_vae": "on"}
    ours = {"comfyui": "0.25.0", "torch": "2.10.0"}
    assert differences(theirs, ours) == [
        "fp16_vae on instead of off",
        "torch 2.9.1 instead of 2.10.0",
    ]


def test_what_a_worker_cannot_take_over_is_named():
    told = {"comfyui": "1", "torch": "2", "fast": "autotune", "fp16_vae": "on"}
    assert unknown_settings(told) == []
    assert unknown_settings({**told, "moon": "full"}) == ["moon"]

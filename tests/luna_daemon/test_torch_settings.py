"""Settings of torch as texts, and computing under those of another process."""

from __future__ import annotations

import pytest
import torch
from luna_collection.luna_daemon.torch_settings import current_settings, under


def test_what_nodes_change_is_told():
    plain = current_settings()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = current_settings()
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == {**plain, "autocast.cpu": "bfloat16", "default_dtype": "float64"}
    assert current_settings() == plain


@pytest.mark.parametrize(
    "told",
    [
        {"autocast.cpu": "bfloat16"},
        {"default_dtype": "float64"},
        {"deterministic": "on"},
        {"matmul_precision": "medium"},
        {"math_sdp": "off"},
        {"mkldnn.enabled": "off", "cudnn.benchmark": "on"},
    ],
)
def test_they_are_in_force_for_as_long_as_it_lasts(told):
    before = current_settings()
    with under(told):
        assert told.items() <= current_settings().items()
    assert current_settings() == before
    with under({}):
        assert current_settings() == before


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"default_dtype": "nn"}, "element type"),
        ({"autocast.cpu": "float5"}, "element type"),
        ({"mkldnn.enabled": "perhaps"}, "perhaps"),
        ({"matmul_precision": "lowest"}, "lowest"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_what_torch_does_not_have_is_named(told, word):
    before = current_settings()
    with pytest.raises(ValueError, match=word), under({"deterministic": "on", **told}):
        pass
    assert current_settings() == before

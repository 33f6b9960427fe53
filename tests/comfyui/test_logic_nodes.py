"""Expressions, comparisons, switches, texts and sweeps on a real ComfyUI, over its API alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 100, "height": 48, "batch_size": 2, "color": 0}}  # fmt: skip
LATENT = {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 64, "batch_size": 1}}
MASK = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 40, "height": 30}}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def shown(server: Any, prompt: dict[str, Any], *places: int) -> list[str]:
    """Run a prompt, and return outputs of its node 1 as PreviewAny shows them."""
    for place in places:
        prompt = {**prompt, f"o{place}": node("PreviewAny", source=["1", place])}
    done = server.run(prompt)
    return [done[f"o{place}"]["text"][0] for place in places]


def test_an_expression_of_sizes_as_every_type(server):
    prompt = {
        "1": node("LunaExpression", expression="ceil_to(a.width, 64) + b.width + c.height + a.batch", seed=0,
                  a=["i", 0], b=["l", 0], c=["m", 0]),
        "i": IMAGE, "l": LATENT, "m": MASK,
    }  # fmt: skip
    total = 128 + 16 + 30 + 2
    assert shown(server, prompt, 0, 1, 2, 3) == [str(total), f"{total}.0", "True", str(total)]


def test_a_result_feeds_a_typed_input_and_a_text_only_the_text(server):
    named = node("LunaExpression", expression="int = 32\nstring = 'w' + str(int)\n1.5", seed=0)
    prompt = {
        "1": named,
        "i": node("EmptyImage", width=["1", 0], height=16, batch_size=1, color=0),
        "p": node("PreviewImage", images=["i", 0]),
    }
    assert shown(server, prompt, 0, 1, 3) == ["32", "1.5", "w32"]
    text = {"1": node("LunaExpression", expression="'abc'", seed=0)}
    assert shown(server, text, 3) == ["abc"]
    with pytest.raises(RunFailedError, match="nothing for the output 'int'"):
        shown(server, {"1": node("LunaExpression", expression="'abcd'", seed=0)}, 0, 3)


def test_what_is_wrong_is_shown_with_its_place(server):
    with pytest.raises(RunFailedError, match="there is no value 'zz'"):
        shown(server, {"1": node("LunaExpression", expression="1 + zz", seed=0)}, 0)
    prompt = {"1": node("LunaExpression", expression="a", seed=0, a=["2", 0]),
              "2": node("CheckpointLoaderSimple", ckpt_name="none")}  # fmt: skip
    with pytest.raises(Exception, match="ckpt_name"):
        shown(server, prompt, 0)


@pytest.mark.parametrize(("limit", "expected"), [(50, "wide"), (150, "narrow")])
def test_a_comparison_switches_and_only_the_chosen_branch_runs(server, limit, expected):
    broken = node("LunaExpression", expression="1 / 0", seed=limit)
    right = node("LunaTextFormat", template=expected, seed=0)
    branches = {"on_true": "t", "on_false": "f"}
    prompt = {
        "1": node("LunaSwitch", condition=["c", 0], **{name: [place, 0] for name, place in branches.items()}),
        "c": node("LunaCompare", a=["w", 0], b=["n", 0], comparison="a > b"),
        "w": node("LunaExpression", expression="a.width", seed=0, a=["i", 0]),
        "n": node("LunaExpression", expression=str(limit), seed=0),
        "i": IMAGE,
        "t": right if expected == "wide" else broken,
        "f": broken if expected == "wide" else right,
    }  # fmt: skip
    assert shown(server, prompt, 0) == [expected]


def test_a_switch_without_the_chosen_input_says_so(server):
    with pytest.raises(RunFailedError, match="nothing is connected with 'on_false'"):
        shown(server, {"1": node("LunaSwitch", condition=False)}, 0)


def test_a_sweep_names_values_for_other_nodes(server):
    sweep = {
        "parameters": "w: 32, 64\nstyle: oil, ink",
        "mode": "combinatorial",
        "count": 0,
        "seed": 0,
    }
    prompt = {
        "1": node("LunaSweep", index=2, **sweep),
        "i": node("EmptyImage", width=["1", 0], height=16, batch_size=1, color=0),
        "p": node("PreviewImage", images=["i", 0]),
        "f": node("LunaTextFormat", template="{a} in {b}", seed=0, a=["1", 0], b=["1", 1]),
        "t": node("PreviewAny", source=["f", 0]),
    }  # fmt: skip
    found = shown(server, prompt, 0, 1, 6, 7, 8, 9, 10)
    assert found[:3] == ["64", "oil", "w=64, style=oil"]
    assert json.loads(found[3]) == {"w": 64, "style": "oil"}
    assert found[4:] == ["2", "4", "False"]
    assert server.run(prompt)["t"]["text"] == ["64 in oil"]

"""The Luna Model Router in the page: a slot that the model type does not need does not exist."""

from __future__ import annotations

import pytest

from .driver import Canvas, Node

SLOTS = {
    "Auto": [],
    "SD1.5": ["clip_l"],
    "SDXL": ["clip_l", "clip_g"],
    "SDXL+Vision": ["clip_l", "clip_g", "clip_vision"],
    "Flux": ["clip_l", "t5xxl"],
    "Flux+Vision": ["clip_l", "t5xxl", "clip_vision"],
    "SD3": ["clip_l", "clip_g", "t5xxl"],
    "Z-IMAGE": ["qwen3"],
}
LABELS = {
    "clip_l": "CLIP-L",
    "clip_g": "CLIP-G",
    "t5xxl": "T5-XXL",
    "qwen3": "Qwen3-4B",
    "clip_vision": "CLIP vision",
}


def slots_of(node: Node) -> list[str]:
    return [
        name.removeprefix("model_type.") for name in node.widgets if name.startswith("model_type.")
    ]


@pytest.mark.parametrize("model_type", SLOTS)
def test_the_slots_are_those_of_the_model_type(canvas: Canvas, model_type: str) -> None:
    router = canvas.add("LunaModelRouter")
    router.set("model_type", model_type)
    assert slots_of(router) == SLOTS[model_type]


@pytest.mark.parametrize("model_type", SLOTS)
def test_what_is_queued_has_the_slots_and_no_other(canvas: Canvas, model_type: str) -> None:
    router = canvas.add("LunaModelRouter")
    router.set("model_type", "SD3")
    router.set("model_type", model_type)
    queued = router.prompt
    assert queued["model_type"] == model_type
    nested = {name for name in queued if name.startswith("model_type.")}
    assert nested == {f"model_type.{slot}" for slot in SLOTS[model_type]}


@pytest.mark.parametrize("modern", [False, True], ids=["classic", "modern"])
def test_slots_are_named_as_people_name_encoders(canvas: Canvas, modern: bool) -> None:
    canvas.use_renderer(modern=modern)
    router = canvas.add("LunaModelRouter")
    for model_type in ("SD3", "Z-IMAGE", "SDXL+Vision"):
        router.set("model_type", model_type)
        expected = [LABELS[slot] for slot in SLOTS[model_type]]
        if modern:
            assert router.shows(expected, [v for v in LABELS.values() if v not in expected])
        else:
            labels = router.labels
            assert [labels[f"model_type.{slot}"] for slot in SLOTS[model_type]] == expected


def test_every_node_of_the_pack_can_be_put_on_the_canvas(
    canvas: Canvas, object_info: dict[str, dict[str, str]]
) -> None:
    for name, info in object_info.items():
        assert canvas.add(name).title == info["display_name"]

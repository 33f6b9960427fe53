"""The LoRA stackers in the page: slots that open one after the other, and previews of what is chosen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .driver import Canvas
from .stub_server import StubServer

STACKERS = ["LunaLoRAStacker", "LunaLoRAStackerRandom"]
# One white pixel, as the server sends pictures.
PICTURE = (
    "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwg"
    "JC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QA"
    "tRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RF"
    "RkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW"
    "19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APn+v//Z"
)
PREVIEWS, NAMES, WORDS = "luna_previews", ".luna-preview-name", ".luna-preview-words"


@pytest.fixture(params=[False, True], ids=["classic", "modern"])
def page(request: pytest.FixtureRequest, canvas: Canvas, stub: StubServer) -> Iterator[Canvas]:
    """The page in both renderers, on a server that knows two LoRAs."""
    stub.loras = {
        "sub/ink.safetensors": told(["ink", "<b>wash</b>"], PICTURE),
        "kim.safetensors": told([], "https://example.com/kim.jpg"),
    }
    canvas.use_renderer(modern=request.param)
    yield canvas
    stub.loras = {}


def told(triggers: list[str], thumbnail: str) -> dict[str, object]:
    return {
        "metadata": {}, "user_lore": None, "problems": [],
        "triggers": triggers, "thumbnail": thumbnail,
    }  # fmt: skip


@pytest.mark.parametrize("type_", ["LunaLoRAStacker", "LunaEmbeddingManager"])
def test_every_slot_opens_the_next_and_keeps_what_was_chosen(page: Canvas, type_: str) -> None:
    node = page.add(type_)
    weight = "model_strength" if "Stacker" in type_ else "weight"
    node.set(f"{weight}_1", 0.25)
    prefix = ""
    for number in range(2, 11):
        assert f"{prefix}slot_{number}.{weight}_{number}" not in node.widgets
        node.set(f"{prefix}slot_{number}", "filled")
        prefix += f"slot_{number}."
        assert f"{prefix}{weight}_{number}" in node.widgets
        node.set(f"{prefix}{weight}_{number}", number / 8)
    assert f"{prefix}slot_11" not in node.widgets
    queued = node.prompt
    assert queued[f"{weight}_1"] == 0.25
    assert queued[f"slot_2.{weight}_2"] == 0.25
    assert queued[f"{prefix}{weight}_10"] == 1.25
    node.set("slot_2", "empty")
    assert not [name for name in node.prompt if "." in name]


def test_a_saved_workflow_opens_as_it_was(page: Canvas) -> None:
    node = page.add("LunaLoRAStacker")
    node.set("lora_1", "kim.safetensors")
    node.set("slot_2", "filled")
    node.set("slot_2.lora_2", "sub/ink.safetensors")
    node.set("slot_2.clip_strength_2", 0.5)
    node.set("slot_2.slot_3", "filled")
    before = node.prompt
    page.reload()
    assert node.prompt == before
    assert node.value("slot_2.slot_3") == "filled"
    assert node.comes_to_show(PREVIEWS, NAMES, ["kim", "ink"])


def test_what_is_shown_is_not_queued(page: Canvas) -> None:
    node = page.add("LunaLoRAStacker")
    assert PREVIEWS in node.widgets
    assert PREVIEWS not in node.prompt


@pytest.mark.parametrize("type_", STACKERS)
def test_chosen_loras_are_shown_with_picture_and_words(page: Canvas, type_: str) -> None:
    node = page.add(type_)
    lora = "lora_name" if type_.endswith("Random") else "lora"
    assert node.comes_to_show(PREVIEWS, NAMES, [])
    node.set(f"{lora}_1", "kim.safetensors")
    node.set("slot_2", "filled")
    node.set(f"slot_2.{lora}_2", "sub/ink.safetensors")
    assert node.comes_to_show(PREVIEWS, NAMES, ["kim", "ink"])
    assert node.comes_to_show(PREVIEWS, "img", [PICTURE])  # and none from another address
    node.set("slot_2", "empty")
    assert node.comes_to_show(PREVIEWS, NAMES, ["kim"])


def test_words_are_text_and_nothing_else(page: Canvas) -> None:
    node = page.add("LunaLoRAStacker")
    node.set("lora_1", "sub/ink.safetensors")
    assert node.comes_to_show(PREVIEWS, WORDS, ["ink, <b>wash</b>"])
    assert node.comes_to_show(PREVIEWS, "b", [])


@pytest.mark.parametrize("switch", ["show_previews", "enabled", "enabled_1"])
def test_what_is_switched_off_is_not_shown(page: Canvas, switch: str) -> None:
    node = page.add("LunaLoRAStacker")
    node.set("lora_1", "kim.safetensors")
    assert node.comes_to_show(PREVIEWS, NAMES, ["kim"])
    node.set(switch, False)
    assert node.comes_to_show(PREVIEWS, NAMES, [])
    node.set(switch, True)
    assert node.comes_to_show(PREVIEWS, NAMES, ["kim"])


def test_an_error_of_the_server_is_shown(page: Canvas) -> None:
    node = page.add("LunaLoRAStacker")
    node.set("lora_1", "gone.safetensors")
    said = "There is no LoRA 'gone.safetensors'. Choose again."
    assert node.comes_to_show(PREVIEWS, WORDS, [said])


def test_slots_are_named_as_people_name_them(canvas: Canvas) -> None:
    node = canvas.add("LunaLoRAStacker")
    node.set("slot_2", "filled")
    labels = node.labels
    assert labels["lora_1"] == "LoRA 1"
    assert labels["slot_2.lora_2"] == "LoRA 2"
    assert labels["slot_2.model_strength_2"] == "model strength 2"
    assert labels["slot_2.slot_3"] == "slot 3"

"""Expression sheets on a real ComfyUI, over its API alone."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from .comfy_server import BOOT_TIMEOUT_S, RunFailedError

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 120)
SAVER = {
    "character_name": "Ann Lee", "columns": 2, "rows": 2, "expression_names": "joy\nfear\nanger",
    "output_folder": "sheets", "format": "webp", "padding": 1,
}  # fmt: skip


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def test_a_sheet_is_cut_and_saved(server):
    (server.base / "input").mkdir(exist_ok=True)
    sheet = Image.new("RGB", (41, 30))
    for place, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]):
        column, row = place % 2, place // 2
        sheet.paste(colour, (column * 20, row * 15, column * 20 + 20, row * 15 + 15))
    sheet.save(server.base / "input" / "sheet.png")
    prompt = {
        "1": node("LoadImage", image="sheet.png"),
        "2": node("LunaExpressionSlicerSaver", sheet_image=["1", 0], **SAVER),
        "3": node("PreviewAny", source=["2", 1]),
        "4": node("PreviewImage", images=["2", 0]),
    }
    done = server.run(prompt)
    assert done["3"]["text"] == ["joy", "fear", "anger"]
    assert len(done["4"]["images"]) == 3
    folder = server.base / "output/sheets/expressions/ann_lee"
    assert sorted(path.name for path in folder.iterdir()) == ["anger.webp", "fear.webp", "joy.webp"]
    with Image.open(folder / "anger.webp") as saved:
        assert saved.size == (18, 13)
        assert saved.convert("RGB").getcolors() == [(18 * 13, (0, 0, 255))]
    for changed in ({"output_folder": "../x"}, {"character_name": " "}):
        prompt["2"] = node(
            "LunaExpressionSlicerSaver", sheet_image=["1", 0], **{**SAVER, **changed}
        )
        with pytest.raises(RunFailedError, match=r"leads out|has no name"):
            server.run(prompt)


def test_a_prompt_for_the_expression_that_is_next(server):
    prompt = {
        "1": node("LunaExpressionList", preset="custom", index=3, custom_list="joy\nfear"),
        "2": node("LunaExpressionPromptBuilder", character_description="red hair", expression=["1", 1],
                  model_type="flux", character_name="Ann"),
        "3": node("PreviewAny", source=["2", 0]),
        "4": node("PreviewAny", source=["2", 1]),
    }  # fmt: skip
    done = server.run(prompt)
    assert "red hair" in done["3"]["text"][0]
    assert "fear" in done["3"]["text"][0]
    assert done["4"]["text"] == ["ann_fear"]

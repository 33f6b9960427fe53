from __future__ import annotations

import base64
import io
import json

import pytest
from luna_collection.utils.loras.preview import SIDE, lora_preview
from PIL import Image

from .lora_files import layer, write_lora


def picture(size=(600, 300), form="PNG", mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, size, 7).save(out, form)
    return out.getvalue()


def opened(url):
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def lora(tmp_path):
    return write_lora(
        tmp_path / "kim.safetensors", layer("a"), {"modelspec.title": "Kim", "x": "y" * 9000}
    )


def test_header_and_notes_are_shown(lora):
    (lora.parent / "kim.json").write_text(json.dumps({"activation text": "kim"}))
    shown = lora_preview(lora)
    assert shown["metadata"]["modelspec.title"] == "Kim"
    assert len(shown["metadata"]["x"]) == 4000
    assert shown["user_lore"] == {"activation text": "kim"}
    assert shown["triggers"] == ["kim"]
    assert (shown["thumbnail"], shown["problems"]) == (None, [])


@pytest.mark.parametrize(
    "name", ["kim.preview.png", "kim.png", "kim.jpg", "kim.preview.webp", "kim.jpeg"]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_picture_beside_it_is_shown_small(lora, name, mode):
    form = {"png": "PNG", "webp": "WEBP"}.get(name.rpartition(".")[2], "JPEG")
    (lora.parent / name).write_bytes(picture(form=form, mode=mode))
    assert opened(lora_preview(lora)["thumbnail"]).size == (SIDE, SIDE // 2)


def test_a_picture_inside_the_header_is_shown_and_not_told_as_text(tmp_path):
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    lora = write_lora(tmp_path / "a.safetensors", layer("a"), {"modelspec.thumbnail": url})
    shown = lora_preview(lora)
    assert opened(shown["thumbnail"]).size == (SIDE, SIDE // 2)
    assert shown["metadata"] == {}


@pytest.mark.parametrize(
    "thumbnail",
    [
        "https://example.com/x.png",
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "",
    ],
)
def test_no_other_address_is_taken_from_a_header(tmp_path, thumbnail):
    lora = write_lora(tmp_path / "a.safetensors", layer("a"), {"modelspec.thumbnail": thumbnail})
    assert lora_preview(lora)["thumbnail"] is None


@pytest.mark.parametrize("raw", [b"", b"no picture", picture()[:60]])
def test_a_damaged_picture_is_a_sentence(lora, raw):
    (lora.parent / "kim.png").write_bytes(raw)
    shown = lora_preview(lora)
    assert shown["thumbnail"] is None
    (problem,) = shown["problems"]
    assert "'kim.png'" in problem


def test_damaged_text_inside_a_header_is_a_sentence(tmp_path):
    lora = write_lora(
        tmp_path / "a.safetensors", layer("a"), {"modelspec.thumbnail": "data:image/png;base64,%%"}
    )
    assert "picture inside a.safetensors" in lora_preview(lora)["problems"][0]


def test_a_damaged_file_still_has_what_lies_beside_it(lora):
    lora.write_bytes(b"broken")
    (lora.parent / "kim.png").write_bytes(picture())
    shown = lora_preview(lora)
    assert shown["thumbnail"]
    assert shown["metadata"] == {}
    assert "damaged" in shown["problems"][0]

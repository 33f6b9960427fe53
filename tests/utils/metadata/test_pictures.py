"""Texts in files of pictures, and lists that are made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.metadata.extraction import prompt_of_picture
from luna_collection.utils.prompt_lists.reading import read_list
from luna_collection.utils.prompt_lists.writing import (
    as_json,
    captions,
    extract,
    pictures_in,
)
from PIL import Image, PngImagePlugin

A1111 = "a cat, 猫 <lora:ink:0.8:0.5>\nNegative prompt: (embedding:bad:1.2)\nSteps: 20, Seed: 5, Size: 64x96"
GRAPH = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "owl"}},
    "2": {
        "class_type": "KSampler",
        "inputs": {"seed": 3, "positive": ["1", 0], "negative": ["1", 0]},
    },
}


def png(path: Path, **texts: str) -> None:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text, zip=len(text) > 100)
    Image.new("RGB", (8, 16)).save(path, pnginfo=info)


def with_exif(path: Path, tag: int, value: bytes | str) -> None:
    exif = Image.Exif()
    if tag == 0x9286:
        exif.get_ifd(0x8769)[tag] = value
    else:
        exif[tag] = value
    Image.new("RGB", (8, 16)).save(path, exif=exif.tobytes())


def saved(path: Path, kind: str) -> None:
    comment = b"UNICODE\0" + A1111.encode("utf-16-be")
    if kind == "parameters":
        png(path, parameters=A1111)
    elif kind == "prompt":
        png(path, prompt=json.dumps(GRAPH), workflow="{}")
    elif kind == "comment":
        with_exif(path, 0x9286, comment)
    elif kind == "comfy":
        with_exif(path, 0x0110, f"prompt:{json.dumps(GRAPH)}")
    elif kind == "description":
        with_exif(path, 0x010E, A1111.encode())


@pytest.mark.parametrize(
    ("ending", "kind", "positive"),
    [
        ("png", "parameters", "a cat, 猫 <lora:ink:0.8:0.5>"),
        ("png", "prompt", "owl"),
        *(
            (ending, kind, positive)
            for ending in ("png", "jpg", "webp")
            for kind, positive in (
                ("comment", "a cat, 猫 <lora:ink:0.8:0.5>"),
                ("comfy", "owl"),
                ("description", "a cat, 猫 <lora:ink:0.8:0.5>"),
            )
        ),
    ],
)
def test_every_place_in_every_format(tmp_path, ending, kind, positive):
    path = tmp_path / f"a.{ending}"
    saved(path, kind)
    texts, found = prompt_of_picture(path)
    assert (texts.width, texts.height) == (8, 16)
    assert found is not None
    assert found.positive == positive


def test_a_jpeg_comment_and_a_text_in_no_form(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", comment="just a cat")
    png(tmp_path / "b.png", Description="an owl", Software="x")
    for name, text in (("a.jpg", "just a cat"), ("b.png", "an owl")):
        found = prompt_of_picture(tmp_path / name)[1]
        assert found is not None
        assert found.positive == text


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_what_is_no_picture_is_said(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"'a\.png'"):
        prompt_of_picture(tmp_path / "a.png")


def test_what_the_extractor_writes_the_loader_reads(tmp_path):
    saved(tmp_path / "a.png", "parameters")
    saved(tmp_path / "b.webp", "comfy")
    png(tmp_path / "c.png")
    (tmp_path / "d.jpg").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    steps: list[tuple[int, int]] = []
    found = extract(pictures_in(tmp_path), True, lambda done, total: steps.append((done, total)))
    assert (found.scanned, len(found.records)) == (4, 2)
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [problem.split("'")[1] for problem in found.problems] == ["c.png", "d.jpg"]
    assert found.records[0] == {
        "positive_prompt": "a cat, 猫",
        "negative_prompt": "(embedding:bad:1.2)",
        "loras": [{"name": "ink", "model_strength": 0.8, "clip_strength": 0.5}],
        "embeddings": ["bad"],
        "extra": {"seed": 5, "steps": 20, "source": "A1111 parameters"},
        "image_name": "a.png",
        "width": 64,
        "height": 96,
        "image_path": (tmp_path / "a.png").as_posix(),
    }
    first, second = read_list(as_json(found.records), "a.json").entries
    assert (first.positive, first.negative, first.seed) == ("a cat, 猫", "(embedding:bad:1.2)", 5)
    assert (first.width, first.height, first.name) == (64, 96, "a.png")
    assert first.loras == (LoraEntry("ink", 0.8, 0.5),)
    assert (second.positive, second.seed, second.width) == ("owl", 3, 8)
    assert captions(found) == {
        tmp_path / "a.txt": "a cat, 猫\n".encode(),
        tmp_path / "b.txt": b"owl\n",
    }


def test_a_tag_that_cannot_be_read_stays_and_is_said(tmp_path):
    png(tmp_path / "a.png", parameters="x <lora:ink:many>")
    found = extract(pictures_in(tmp_path), False, lambda *_: None)
    assert found.records[0]["positive_prompt"] == "x <lora:ink:many>"
    assert "stays in the prompt" in found.problems[0]


def test_what_progress_raises_ends_all(tmp_path):
    png(tmp_path / "a.png", parameters="x")

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(pictures_in(tmp_path), False, stop)

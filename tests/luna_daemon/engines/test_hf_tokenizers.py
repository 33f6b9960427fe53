from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from luna_collection.luna_daemon.errors import BadRequestError

Load = Callable[..., Any]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("vocab.json", "{"),
        ("vocab.json", '["a"]'),
        ("vocab.json", '{"a": "b"}'),
        ("vocab.json", "{}"),
        ("merges.txt", "#version: 0.2\nzzz yyy\n"),
        ("merges.txt", "#version: 0.2\nloneword\n"),
        ("merges.txt", "\udcff"),
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"model": 3}'),
        ("tokenizer.json", '{"model": {"vocab": []}}'),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", '{"tokenizer_class": "T5Tokenizer"}'),
    ],
)
def test_a_damaged_tokenizer_is_refused(load: Load, repo: Path, file: str, text: str) -> None:
    (repo / "tokenizer" / file).write_text(text, errors="surrogateescape")
    with pytest.raises(BadRequestError, match="'repo/tokenizer"):
        load(repo / "text_encoder", "clip_l")


def test_the_tokenizer_of_another_model_is_refused(
    load: Load, repo: Path, change_json: Any
) -> None:
    file = repo / "tokenizer" / "vocab.json"
    change_json(file, extra=len(json.loads(file.read_text())))
    with pytest.raises(BadRequestError, match=r"knows 553 tokens, but the encoder .* only 552"):
        load(repo / "text_encoder", "clip_l")


def test_a_tokenizer_without_a_length_gets_the_encoders(load: Load, repo: Path) -> None:
    file = repo / "tokenizer" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["model_max_length"]
    file.write_text(json.dumps(config))
    assert len(load(repo / "text_encoder", "clip_l").model.tokenizer.encode("cat").ids) == 77


def test_an_encoder_in_another_folder_has_no_tokenizer(load: Load, repo: Path) -> None:
    (repo / "text_encoder").rename(repo / "my_clip")
    with pytest.raises(BadRequestError, match="'repo/my_clip' is not named 'text_encoder…'"):
        load(repo / "my_clip", "clip_l")

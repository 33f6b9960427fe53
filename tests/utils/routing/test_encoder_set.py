from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.routing.encoder_set import order_for_a_family
from luna_collection.utils.weights.contents import UNKNOWN, Contents, FileKind
from luna_collection.utils.weights.shelf import ModelFile


def encoder(kind: str) -> ModelFile:
    contents = Contents(FileKind.TEXT_ENCODER, encoder=kind)
    return ModelFile("text_encoders", f"{kind}.safetensors", Path(kind), contents)


L, G, T5, QWEN3, H = (encoder(k) for k in ("clip_l", "clip_g", "t5xxl", "qwen3_4b", "clip_h"))


@pytest.mark.parametrize(
    ("files", "family", "ordered"),
    [
        ([L], "SD1.5", (L,)),
        ([G, L], "SDXL", (L, G)),
        ([T5, L], "Flux", (L, T5)),
        ([T5, G, L], "SD3", (L, G, T5)),
        ([QWEN3], "Z-IMAGE", (QWEN3,)),
    ],
)
def test_files_in_any_order_make_a_family(files, family, ordered):
    kind, found = order_for_a_family(files)
    assert (kind.name, found) == (family, ordered)


@pytest.mark.parametrize(
    "files", [[T5], [L, L], [L, H], [ModelFile("", "x.ckpt", Path("x"), UNKNOWN)], []]
)
def test_files_that_make_none_are_said(files):
    with pytest.raises(InputError) as refused:
        order_for_a_family(files)
    assert all(f"'{file.name}' is {file.contents}" in refused.value.message for file in files)

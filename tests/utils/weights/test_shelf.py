from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy
import pytest
import torch
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.contents import UNKNOWN, FileKind
from luna_collection.utils.weights.shelf import Shelf
from safetensors.torch import save_file

LORA = {"x.lora_down.weight": torch.zeros(1)}
VAE = {"decoder.conv_in.weight": torch.zeros(8, 4, 1, 1)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    save_file(VAE, tmp_path / "vae.safetensors")
    (tmp_path / "old.ckpt").write_bytes(b"anything")
    (tmp_path / "broken.safetensors").write_bytes(b"short")

    def path_of(folder: str, name: str) -> Path | None:
        path = tmp_path / name
        return path if folder == "vae" and path.is_file() else None

    return Shelf(lambda _: sorted(os.listdir(tmp_path)), path_of)


def test_a_file_comes_with_its_contents(shelf: Shelf):
    file = shelf.find("vae", "vae.safetensors")
    assert file is not None
    assert (file.name, file.contents.kind, file.path.name) == (
        "vae.safetensors",
        FileKind.VAE,
        "vae.safetensors",
    )


def test_a_file_that_is_not_there_is_none(shelf: Shelf):
    assert shelf.find("vae", "other.safetensors") is None
    assert shelf.find("loras", "vae.safetensors") is None


def test_a_file_that_could_run_code_is_not_opened(shelf: Shelf):
    file = shelf.find("vae", "old.ckpt")
    assert file is not None
    assert file.contents is UNKNOWN


def test_a_damaged_file_is_an_error_when_it_is_chosen_and_left_out_of_lists(shelf: Shelf):
    with pytest.raises(ModelFileError, match=r"'broken\.safetensors' is damaged"):
        shelf.find("vae", "broken.safetensors")
    assert [file.name for file in shelf.files_in("vae")] == ["old.ckpt", "vae.safetensors"]


def test_a_file_that_changes_is_read_again(shelf: Shelf, tmp_path: Path):
    before = shelf.find("vae", "vae.safetensors")
    save_file(LORA, tmp_path / "vae.safetensors")
    after = shelf.find("vae", "vae.safetensors")
    assert before is not None
    assert after is not None
    assert (before.contents.kind, after.contents.kind) == (FileKind.VAE, FileKind.LORA)


def test_gguf_files_come_with_their_contents(shelf: Shelf, tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "t5.gguf", "t5encoder")
    for name, shape in (("enc.blk.23.ffn_up", (10240, 2)), ("enc.blk.0.attn_norm", (4,))):
        writer.add_tensor(f"{name}.weight", numpy.zeros(shape, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = shelf.find("vae", "t5.gguf")
    assert file is not None
    assert (file.contents.kind, file.contents.encoder) == (FileKind.TEXT_ENCODER, "t5xxl")
    (tmp_path / "broken.gguf").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"broken\.gguf"):
        shelf.find("vae", "broken.gguf")

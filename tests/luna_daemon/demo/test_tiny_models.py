from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from luna_collection.luna_daemon.demo.tiny_models import make_sd15_like, make_sdxl_like
from luna_collection.utils.errors import InputError
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

TEXT, VAE = "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd15_like(tmp_path_factory.mktemp("demo") / "sd15")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sdxl_like(tmp_path_factory.mktemp("demo") / "new" / "sdxl")


def state(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_same_seed_gives_the_same_bytes(sd15: Path, tmp_path: Path) -> None:
    assert state(make_sd15_like(tmp_path / "again")) == state(sd15)
    other = load_file(make_sd15_like(tmp_path / "other", seed=16) / TEXT)
    assert not torch.equal(other[next(iter(other))], load_file(sd15 / TEXT)[next(iter(other))])


def test_making_leaves_the_random_numbers_of_others_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    make_sdxl_like(tmp_path / "sdxl")
    assert torch.equal(torch.rand(4), expected)


def test_the_folders_are_small_and_complete(sd15: Path, sdxl: Path) -> None:
    assert sum(len(data) for folder in (sd15, sdxl) for data in state(folder).values()) < 8 * 2**20
    assert sorted(path.name for path in sdxl.iterdir()) == [
        "model_index.json", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae",
    ]  # fmt: skip
    assert list(sdxl.parent.iterdir()) == [sdxl]


def test_text_weights_have_the_classic_names(sdxl: Path) -> None:
    first = load_file(sdxl / TEXT)
    second = load_file(sdxl / "text_encoder_2" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in first)
    assert [name for name in second if not name.startswith("text_model.")] == [
        "text_projection.weight"
    ]


def test_transformers_finds_every_weight(sd15: Path) -> None:
    _, info = CLIPTextModel.from_pretrained(sd15 / "text_encoder", output_loading_info=True)
    assert not any(info.values())


def test_encoders_of_the_families_differ_and_vaes_are_of_one_shape(sd15: Path, sdxl: Path) -> None:
    one, two = load_file(sd15 / TEXT), load_file(sdxl / TEXT)
    assert not any(torch.equal(one[name], two[name]) for name in one)
    shapes = [{k: v.shape for k, v in load_file(folder / VAE).items()} for folder in (sd15, sdxl)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_every_text_can_be_spelled(sdxl: Path, name: str) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(sdxl / name)
    text = "A photo of 2 cats, (masterpiece:1.2) café 猫!"
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert ids[0] == tokenizer.bos_token_id == len(tokenizer) - 2
    assert ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1
    spelled = tokenizer.decode(ids[1:-1]).replace(" ", "")
    assert spelled == text.lower().replace(" ", "")
    assert tokenizer.model_max_length == 77


def test_a_finished_folder_is_left_alone(sd15: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sd15.rglob("*")}
    assert make_sd15_like(sd15) == sd15
    assert {path: path.stat().st_mtime_ns for path in sd15.rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert (make_sd15_like(tmp_path / "here") / TEXT).is_file()


@pytest.mark.parametrize("damage", [TEXT, VAE, "vae/config.json", "tokenizer/vocab.json"])
def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, damage: str) -> None:
    folder = make_sd15_like(tmp_path / "sd15")
    (folder / damage).unlink()
    before = state(folder)
    with pytest.raises(InputError, match="'sd15' exists, but is not a complete demo model"):
        make_sd15_like(folder)
    assert state(folder) == before


def test_another_seed_is_not_taken_for_ours(sd15: Path) -> None:
    with pytest.raises(InputError, match="with seed 99"):
        make_sd15_like(sd15, seed=99)


def test_the_other_family_is_not_taken_for_ours(sd15: Path) -> None:
    with pytest.raises(InputError, match="not a complete demo model"):
        make_sdxl_like(sd15)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        make_sd15_like(tmp_path / "sd15")
    assert list(tmp_path.iterdir()) == []


def test_the_index_names_the_parts(sdxl: Path) -> None:
    index = json.loads((sdxl / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]

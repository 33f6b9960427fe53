from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from luna_collection.utils.conversion import taking_apart
from luna_collection.utils.conversion.refusal import ConversionRefusedError, Reason
from luna_collection.utils.weights.contents import FileKind
from luna_collection.utils.weights.detection import describe
from luna_collection.utils.weights.safetensors_header import read_safetensors_header
from safetensors.torch import load_file

from .model_files import CLIP_L, SDXL, flux, save, sdxl_checkpoint, weights


def take_apart(checkpoint, models):
    return taking_apart.take_apart(checkpoint, models)


def test_encoders_and_vae_become_files_bit_for_bit(tmp_path):
    checkpoint = sdxl_checkpoint(tmp_path)
    before = load_file(checkpoint)

    parts = take_apart(checkpoint, tmp_path)

    places = {kind: part.path.relative_to(tmp_path).as_posix() for kind, part in parts.items()}
    assert places == {
        "clip_l": "text_encoders/sdxl_clip_l.safetensors",
        "vae": "vae/sdxl_vae.safetensors",
    }
    prefixes = {"clip_l": "conditioner.embedders.0.transformer.", "vae": "first_stage_model."}
    for kind, part in parts.items():
        found = load_file(part.path)
        assert found.keys() == {
            name.removeprefix(prefixes[kind]) for name in before if name.startswith(prefixes[kind])
        }
        for name, tensor in found.items():
            there = before[prefixes[kind] + name]
            assert tensor.dtype == there.dtype
            assert torch.equal(tensor, there)
    kinds = [describe(read_safetensors_header(part.path)).kind for part in parts.values()]
    assert kinds == [FileKind.TEXT_ENCODER, FileKind.VAE]


def test_a_second_time_nothing_is_written_until_the_checkpoint_changes(tmp_path):
    checkpoint = sdxl_checkpoint(tmp_path)
    first = take_apart(checkpoint, tmp_path)
    again = take_apart(checkpoint, tmp_path)
    assert [part.made for part in again.values()] == [False, False]
    assert {p.path for p in first.values()} == {p.path for p in again.values()}

    tensors = load_file(checkpoint)
    save(checkpoint, {**tensors, "more": torch.zeros(3)})
    assert all(part.made for part in take_apart(checkpoint, tmp_path).values())


def test_an_all_in_one_file_gives_every_encoder(tmp_path):
    model = {f"model.diffusion_model.{k}": t for k, t in weights(SDXL, torch.float16).items()}
    text = weights(CLIP_L, torch.float16)
    encoders = {f"text_encoders.clip_l.transformer.{k}": t for k, t in text.items()}
    unknown = {"text_encoders.new_one.transformer.block.weight": torch.ones(4, 4)}
    marks = {"text_encoders.clip_l.logit_scale": torch.ones(())}
    checkpoint = save(tmp_path / "all.safetensors", {**model, **encoders, **unknown, **marks})

    parts = take_apart(checkpoint, tmp_path)

    assert set(parts) == {"clip_l", "text_encoder_2"}
    assert load_file(parts["clip_l"].path).keys() == set(CLIP_L)
    assert load_file(parts["text_encoder_2"].path).keys() == {"block.weight"}


def test_a_file_of_another_source_is_not_overwritten(tmp_path):
    place = save(tmp_path / "vae/sdxl_vae.safetensors", {"mine": torch.ones(2)})
    parts = take_apart(sdxl_checkpoint(tmp_path), tmp_path)
    assert parts["vae"].path != place
    assert load_file(place).keys() == {"mine"}


def test_what_has_nothing_inside_is_refused(tmp_path):
    with pytest.raises(ConversionRefusedError, match="neither text encoders nor a VAE") as refused:
        take_apart(flux(tmp_path), tmp_path)
    assert refused.value.reason is Reason.NO_MODEL


def test_notes_about_quantised_layers_cannot_be_divided(tmp_path):
    tensors = load_file(sdxl_checkpoint(tmp_path))
    noted = save(tmp_path / "noted.safetensors", tensors, _quantization_metadata="{}")
    with pytest.raises(ConversionRefusedError, match="for all of its models together"):
        take_apart(noted, tmp_path)
    assert not (tmp_path / "vae").exists()


def test_the_command(tmp_path, root):
    sdxl_checkpoint(tmp_path / "models" / "checkpoints")
    command = [sys.executable, str(root / "scripts" / "weights.py"), "extract"]

    def run(file):
        return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)

    done = run(tmp_path / "models" / "checkpoints" / "sdxl.safetensors")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "vae" / "sdxl_vae.safetensors").is_file()
    assert done.stdout.count("written.") == 2
    missing = run(tmp_path / "gone.safetensors")
    assert missing.returncode == 1
    assert "gone.safetensors" in missing.stdout

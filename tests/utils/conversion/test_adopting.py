"""Files that lie where other releases put them, without a note of what they were made of."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.sidecars import sidecar_path

from .model_files import FLUX, save, sdxl_checkpoint, weights


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "models/checkpoints/a.safetensors", weights(FLUX))


def old_file(models: Path, seed: int = 0) -> Path:
    """A file as another pack makes it: every tensor cut to eight bits."""
    small = {n: t.to(torch.float8_e4m3fn) for n, t in weights(FLUX, seed=seed).items()}
    return save(models / "diffusion_models/converted/a_fp8_e4m3fn.safetensors", small)


def test_a_file_of_this_source_is_used(tmp_path, source):
    old = old_file(tmp_path / "models")

    found = converted_once(source, "fp8_e4m3fn", tmp_path / "models/unet")

    assert (found.path, found.made) == (old, False)
    assert sidecar_path(old).exists()
    assert converted_once(source, "fp8_e4m3fn", tmp_path / "models/unet").path == old
    assert not list((tmp_path / "models").rglob("*unet_fp8*"))


def test_a_gguf_file_of_this_source_is_used(tmp_path, source):
    old = tmp_path / "models/diffusion_models/gguf/a_Q8_0.gguf"
    old.parent.mkdir(parents=True)
    writer = gguf.GGUFWriter(old, "flux")
    for name, tensor in weights(FLUX).items():
        kind = gguf.GGMLQuantizationType.Q8_0
        if tensor.dim() < 2:
            kind = gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(tensor.float().numpy(), kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    found = converted_once(source, "gguf_Q8_0", tmp_path / "models/unet")

    assert (found.path, found.made) == (old, False)


def test_a_file_of_another_model_of_the_same_name_is_not(tmp_path, source):
    old_file(tmp_path / "models", seed=1)

    found = converted_once(source, "fp8_e4m3fn", tmp_path / "models/unet")

    assert found.made
    assert found.path.parent.name == "fp8"


@pytest.mark.parametrize("damage", ["cut", "other tensors", "other precision"])
def test_a_file_that_does_not_fit_is_left_alone(tmp_path, source, damage):
    old = old_file(tmp_path / "models")
    if damage == "cut":
        old.write_bytes(old.read_bytes()[:-100])
    elif damage == "other tensors":
        save(old, {"img_in.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)})
    else:
        save(old, weights(FLUX))
    before = old.read_bytes()

    found = converted_once(source, "fp8_e4m3fn", tmp_path / "models/unet")

    assert found.made
    assert old.read_bytes() == before
    assert not sidecar_path(old).exists()


def test_a_checkpoints_model_under_its_prefix(tmp_path):
    source = sdxl_checkpoint(tmp_path / "models/checkpoints", "b.safetensors")
    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    old = tmp_path / "models/unet/optimized/b_fp8_e4m3fn_unet.safetensors"
    old.parent.mkdir(parents=True)
    made.path.rename(old)

    found = converted_once(source, "fp8_e4m3fn", tmp_path / "models/unet")

    assert (found.path, found.made) == (old, False)


@pytest.mark.parametrize("ours", [True, False], ids=["made by us", "made by others"])
def test_a_small_change_of_the_source_is_noticed_where_it_is_noted_what_a_file_was_made_of(
    tmp_path, source, ours
):
    folder = tmp_path / "models/unet"
    if not ours:
        old_file(tmp_path / "models")
    first = converted_once(source, "fp8_e4m3fn", folder)
    assert first.made is ours
    changed = weights(FLUX)
    changed["final_layer.linear.weight"] = changed["final_layer.linear.weight"] * 1.5
    save(source, changed)

    second = converted_once(source, "fp8_e4m3fn", folder)

    assert second.made
    assert second.sidecar.identity != first.sidecar.identity

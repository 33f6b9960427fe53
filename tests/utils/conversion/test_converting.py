from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from luna_collection.utils.conversion import streaming
from luna_collection.utils.conversion.converting import convert_to, converted_once
from luna_collection.utils.conversion.part_files import part_of, record_of
from luna_collection.utils.conversion.refusal import (
    ConversionCancelledError,
    ConversionRefusedError,
    Reason,
)
from luna_collection.utils.conversion.sidecars import read_sidecar, sidecar_path
from luna_collection.utils.conversion.streaming import Run
from luna_collection.utils.errors import InputError, LunaError, ModelFileError
from luna_collection.utils.weights.safetensors_header import read_safetensors_header
from safetensors import safe_open
from safetensors.torch import load_file

from .model_files import CLIP_L, FLUX, flux, save, sdxl_checkpoint, weights

FP8 = torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("target", "dtype", "place"),
    [
        ("bf16", torch.bfloat16, "bf16/flux_unet.safetensors"),
        ("fp16", torch.float16, "fp16/flux_unet.safetensors"),
    ],
)
def test_sixteen_bits_are_what_torch_rounds_to(tmp_path, target, dtype, place):
    source = flux(tmp_path, dtype=torch.float32)

    made = converted_once(source, target, tmp_path / "unet")

    assert made.path == tmp_path / "unet" / place
    found, given = load_file(made.path), load_file(source)
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name].to(dtype)) for name in given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_plain_fp8_keeps_what_a_model_begins_and_ends_with(tmp_path, dtype):
    source = flux(tmp_path, dtype=dtype)

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    found, given = load_file(made.path), load_file(source)
    small = {name for name in found if found[name].dtype == FP8}
    assert small == {n for n in FLUX if n.startswith(("double", "single")) and len(FLUX[n]) > 1}
    assert all(torch.equal(found[n].float(), given[n].to(FP8).float()) for n in small)
    high = torch.bfloat16 if dtype == torch.float32 else dtype
    assert found["img_in.weight"].dtype == high
    assert torch.equal(found["img_in.weight"], given["img_in.weight"].to(high))
    assert torch.equal(found["img_in.bias"], given["img_in.bias"])


def test_values_that_fp8_cannot_hold_become_its_largest(tmp_path):
    tensors = weights(FLUX)
    name = "single_blocks.0.linear1.weight"
    tensors[name][0, :2] = torch.tensor([1000.0, -1000.0])

    made = converted_once(save(tmp_path / "a.safetensors", tensors), "fp8_e4m3fn", tmp_path)

    assert load_file(made.path)[name].float()[0, :2].tolist() == [448.0, -448.0]


def test_scaled_fp8_is_in_the_layout_that_comfyui_reads(tmp_path):
    source = flux(tmp_path)

    made = converted_once(source, "fp8_e4m3fn_scaled", tmp_path / "unet")

    found, given = load_file(made.path), load_file(source)
    layer = "double_blocks.0.img_mlp.0"
    scale = found[f"{layer}.weight_scale"]
    assert (scale.dtype, scale.shape) == (torch.float32, ())
    assert scale == given[f"{layer}.weight"].abs().max().float() / 448
    back = found[f"{layer}.weight"].float() * scale
    error = (back - given[f"{layer}.weight"].float()).square().mean().sqrt()
    assert error < 0.04 * given[f"{layer}.weight"].float().square().mean().sqrt()
    with safe_open(made.path, "pt") as file:
        note = json.loads(file.metadata()["_quantization_metadata"])
    assert note["format_version"] == "1.0"
    assert note["layers"][layer] == {"format": "float8_e4m3fn"}
    assert {f"{name}.weight_scale" for name in note["layers"]} == {
        name for name in found if name.endswith("scale") and not name.endswith("norm.scale")
    }


def test_a_layer_of_zeros_stays_one(tmp_path):
    tensors = weights(FLUX)
    name = "single_blocks.0.linear1.weight"
    tensors[name].zero_()

    made = converted_once(save(tmp_path / "a.safetensors", tensors), "fp8_e4m3fn_scaled", tmp_path)

    found = load_file(made.path)
    assert not found[name].float().any()
    assert found["single_blocks.0.linear1.weight_scale"] == 1


def test_of_a_checkpoint_only_the_diffusion_model_is_written(tmp_path):
    source = sdxl_checkpoint(tmp_path)

    made = converted_once(source, "fp8_e5m2", tmp_path / "unet")

    found, given = load_file(made.path), load_file(source)
    assert all(f"model.diffusion_model.{name}" in given for name in found)
    assert found["input_blocks.1.0.in_layers.2.weight"].dtype == torch.float8_e5m2
    assert found["input_blocks.0.0.weight"].dtype == torch.float16
    out = "input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight"
    assert found[out].dtype == torch.float8_e5m2


def test_the_second_call_finds_the_file(tmp_path):
    source = flux(tmp_path)
    first = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    stamp = first.path.stat().st_mtime_ns

    second = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert (first.made, second.made) == (True, False)
    assert second.path == first.path
    assert second.path.stat().st_mtime_ns == stamp
    assert set(first.path.parent.iterdir()) == {first.path, sidecar_path(first.path)}


def test_a_source_that_changed_is_converted_again(tmp_path):
    source = flux(tmp_path)
    converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    save(source, weights(FLUX, seed=1))
    os.utime(source, ns=(1, 1))

    again = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert again.made
    assert again.path.name == "flux_unet_fp8_e4m3fn.safetensors"
    name = "single_blocks.0.linear1.weight"
    expected = weights(FLUX, seed=1)[name].to(FP8)
    assert torch.equal(load_file(again.path)[name].float(), expected.float())


def test_sources_of_the_same_name_do_not_share_a_file(tmp_path):
    one, two = (
        flux(tmp_path / "one"),
        save(tmp_path / "two/flux.safetensors", weights(FLUX, seed=1)),
    )

    first = converted_once(one, "fp8_e4m3fn", tmp_path / "unet")
    second = converted_once(two, "fp8_e4m3fn", tmp_path / "unet")

    assert first.path != second.path
    assert not converted_once(one, "fp8_e4m3fn", tmp_path / "unet").made
    assert converted_once(two, "fp8_e4m3fn", tmp_path / "unet").path == second.path


def test_a_file_of_somebody_else_is_not_replaced(tmp_path):
    source = flux(tmp_path)
    place = tmp_path / "unet/fp8/flux_unet_fp8_e4m3fn.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert made.path != place
    assert place.read_bytes() == b"mine"


def test_a_converted_file_that_was_damaged_is_made_again(tmp_path):
    source = flux(tmp_path)
    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[:-1])

    again = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert again.made
    assert again.path == made.path
    assert again.path.read_bytes() == whole


def test_a_renamed_source_finds_its_file(tmp_path):
    source = flux(tmp_path / "a")
    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    (tmp_path / "b").mkdir()
    moved = source.rename(tmp_path / "b" / source.name)

    assert converted_once(moved, "fp8_e4m3fn", tmp_path / "unet") == made.__class__(
        made.path, False, made.sidecar
    )


def test_the_same_source_becomes_the_same_bytes(tmp_path):
    source = flux(tmp_path)
    one = converted_once(source, "fp8_e4m3fn_scaled", tmp_path / "one")
    two = converted_once(source, "fp8_e4m3fn_scaled", tmp_path / "two")

    assert one.path.read_bytes() == two.path.read_bytes()


def test_metadata_of_the_source_stays(tmp_path):
    source = save(tmp_path / "a.safetensors", weights(FLUX), config='{"x": 1}', author="Ärzte")

    made = converted_once(source, "fp8_e4m3fn", tmp_path)

    assert read_safetensors_header(made.path).metadata == {
        "format": "pt",
        "config": '{"x": 1}',
        "author": "Ärzte",
    }


def test_chunks_do_not_change_the_bytes(tmp_path, monkeypatch):
    source = flux(tmp_path)
    whole = converted_once(source, "fp8_e4m3fn_scaled", tmp_path / "one")
    monkeypatch.setattr(streaming, "CHUNK_ELEMENTS", 1000)

    parts = converted_once(source, "fp8_e4m3fn_scaled", tmp_path / "two")

    assert whole.path.read_bytes() == parts.path.read_bytes()


@pytest.mark.parametrize(
    ("tensors", "target", "reason"),
    [
        (weights(FLUX), "bf16", Reason.SAME_PRECISION),
        (weights(CLIP_L), "fp8_e4m3fn", Reason.NO_MODEL),
        ({"a.lora_down.weight": torch.zeros(4, 4)}, "fp8_e4m3fn", Reason.NO_MODEL),
        ({"decoder.conv_in.weight": torch.zeros(8, 4, 3, 3)}, "fp8_e4m3fn", Reason.NO_MODEL),
        ({n: t.to(FP8) for n, t in weights(FLUX).items()}, "bf16", Reason.QUANTISED),
        ({**weights(FLUX), "scaled_fp8": torch.zeros(2)}, "fp16", Reason.QUANTISED),
    ],
    ids=["same", "text encoder", "LoRA", "VAE", "fp8", "scaled"],
)
def test_conversions_without_sense_are_refused(tmp_path, tensors, target, reason):
    source = save(tmp_path / "a.safetensors", tensors)

    with pytest.raises(ConversionRefusedError) as caught:
        converted_once(source, target, tmp_path / "unet")

    assert caught.value.reason is reason
    assert "a.safetensors" in caught.value.message
    assert not (tmp_path / "unet").exists()


def test_what_is_neither_safetensors_nor_gguf_is_refused(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"x")

    with pytest.raises(ConversionRefusedError) as caught:
        converted_once(path, "fp8_e4m3fn", tmp_path)

    assert caught.value.reason is Reason.FORMAT
    assert "write it with Save Checkpoint" in caught.value.hint


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_truncated_source_is_named(tmp_path, cut):
    source = flux(tmp_path)
    source.write_bytes(source.read_bytes()[:-cut])

    with pytest.raises(ModelFileError, match=r"flux\.safetensors"):
        converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert not (tmp_path / "unet").exists()


def test_values_that_are_no_numbers_are_named(tmp_path):
    tensors = weights(FLUX)
    tensors["single_blocks.0.linear1.weight"][3, 3] = float("nan")
    source = save(tmp_path / "a.safetensors", tensors)

    with pytest.raises(ModelFileError, match=r"single_blocks\.0\.linear1\.weight"):
        converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert not [
        path for path in (tmp_path / "unet").rglob("*") if path.suffix in (".part", ".safetensors")
    ]


def test_values_too_large_for_fp16_are_named(tmp_path):
    tensors = weights(FLUX)
    tensors["single_blocks.0.linear1.weight"][3, 3] = 2.0**20
    source = save(tmp_path / "a.safetensors", tensors)

    with pytest.raises(LunaError, match=r"single_blocks\.0\.linear1\.weight.*1\.05e\+06"):
        converted_once(source, "fp16", tmp_path / "unet")


def test_a_stopped_conversion_goes_on_where_it_was(tmp_path, monkeypatch):
    source = flux(tmp_path)
    whole = converted_once(source, "fp8_e4m3fn", tmp_path / "whole").path.read_bytes()
    seen: list[str] = []

    with pytest.raises(ConversionCancelledError):
        converted_once(
            source,
            "fp8_e4m3fn",
            tmp_path / "unet",
            Run(lambda progress: seen.append(progress.doing), lambda: len(seen) >= 4),
        )
    place = tmp_path / "unet/fp8/flux_unet_fp8_e4m3fn.safetensors"
    assert not place.exists()
    assert part_of(place).exists()
    before = set(json.loads(record_of(place).read_bytes())["finished"])
    again: list[str] = []
    made = converted_once(
        source, "fp8_e4m3fn", tmp_path / "unet", run=Run(lambda p: again.append(p.doing))
    )

    assert made.made
    assert before == set(seen)
    assert set(again) == set(FLUX) - before
    assert made.path.read_bytes() == whole
    assert not part_of(place).exists()
    assert not record_of(place).exists()


def test_a_part_of_another_source_is_not_used(tmp_path):
    source = flux(tmp_path)
    stop = iter([False] * 3 + [True] * 100)
    with pytest.raises(ConversionCancelledError):
        converted_once(
            source, "fp8_e4m3fn", tmp_path / "unet", Run(is_cancelled=lambda: next(stop))
        )
    save(source, weights(FLUX, seed=1))
    os.utime(source, ns=(1, 1))

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")
    whole = converted_once(source, "fp8_e4m3fn", tmp_path / "whole")

    assert made.path.read_bytes() == whole.path.read_bytes()


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path):
    source = flux(tmp_path)

    with pytest.raises(ModelFileError, match="was changed while it was converted"):
        converted_once(
            source,
            "fp8_e4m3fn",
            tmp_path / "unet",
            Run(lambda progress: os.utime(source, ns=(1, 1))),
        )

    assert not list((tmp_path / "unet").rglob("*.safetensors"))


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    source = flux(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))

    with pytest.raises(LunaError, match=r"has only 0\.0 GB free"):
        converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    assert not list((tmp_path / "unet").rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "unet").write_bytes(b"a file")

    with pytest.raises(LunaError, match="unet"):
        converted_once(flux(tmp_path), "fp8_e4m3fn", tmp_path / "unet")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path):
    source = flux(tmp_path).rename(tmp_path / os.fsdecode(b"\xff.safetensors"))

    made = converted_once(source, "gguf_Q8_0", tmp_path / "unet")

    assert os.fsencode(made.path.name) == b"\xff_Q8_0.gguf"
    assert not converted_once(source, "gguf_Q8_0", tmp_path / "unet").made


def test_a_name_of_ones_own(tmp_path):
    source = sdxl_checkpoint(tmp_path)
    output = tmp_path / "mine" / "taken out.safetensors"

    made = convert_to(source, "fp16", output)

    assert (made.path, made.made) == (output, True)
    found, given = load_file(output), load_file(source)
    assert all(torch.equal(found[n], given[f"model.diffusion_model.{n}"]) for n in found)
    assert not convert_to(source, "fp16", output).made
    assert convert_to(
        source, "fp8_e4m3fn", output
    ).made  # in the place of what was made of it before


def test_a_name_that_is_taken(tmp_path):
    source = flux(tmp_path)
    other = flux(tmp_path, "other.safetensors")

    with pytest.raises(InputError, match="already"):
        convert_to(source, "fp16", other)
    with pytest.raises(InputError, match="already"):
        convert_to(source, "fp16", source)
    with pytest.raises(InputError, match=r"\.gguf"):
        convert_to(source, "q8_0", tmp_path / "a.safetensors")

    assert load_file(source).keys() == FLUX.keys()


def test_names_in_any_script_and_with_dots(tmp_path):
    source = flux(tmp_path / "モデル é", "плюс v1.5 🌙.safetensors")

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "ünet")

    assert made.path.name == "плюс v1.5 🌙_unet_fp8_e4m3fn.safetensors"
    assert not converted_once(source, "fp8_e4m3fn", tmp_path / "ünet").made


def test_the_sidecar_says_what_it_was_made_of(tmp_path):
    source = flux(tmp_path)

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet")

    sidecar = read_sidecar(made.path)
    assert sidecar == made.sidecar
    assert sidecar is not None
    assert Path(sidecar.source) == source
    assert sidecar.identity.size == source.stat().st_size
    assert sidecar.layers["single_blocks.0.linear1.weight"]["type"] == "F8_E4M3"


@pytest.mark.parametrize(
    "target", ["fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fn_scaled", "gguf_Q8_0", "gguf_Q4_K_M"]
)
def test_the_sidecar_says_how_far_layers_are_from_the_source(tmp_path, target):
    from .test_gguf import read

    source = flux(tmp_path, dtype=torch.float32)

    made = converted_once(source, target, tmp_path)

    given = load_file(source)
    name = "single_blocks.0.linear1.weight"
    if made.path.suffix == ".gguf":
        found = read(made.path)[name][1]
    else:
        tensors = load_file(made.path)
        scale = tensors.get(f"{name}_scale", torch.tensor(1.0))
        found = tensors[name].float() * scale
    error = (found - given[name]).norm() / given[name].norm()
    pair = found.flatten().double(), given[name].flatten().double()
    cosine = torch.cosine_similarity(*pair, 0)
    noted = made.sidecar.layers[name]
    # A sample of the rows says it of all.
    assert noted["rmse"] == pytest.approx(float(error), rel=0.05)
    assert noted["cosine"] == pytest.approx(float(cosine), abs=1e-4)
    assert made.sidecar.layers["img_in.bias"] == {"type": "F32"}

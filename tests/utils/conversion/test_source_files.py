"""Sources in other forms: models in parts, GGUF files that are not quantised, links, and odd types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from luna_collection.utils.conversion.batch import Batch, convert_folder
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.inspecting import inspect_file
from luna_collection.utils.conversion.locations import default_folder
from luna_collection.utils.conversion.refusal import ConversionRefusedError, Reason
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.contents import UNKNOWN
from luna_collection.utils.weights.gguf_header import read_gguf_header
from luna_collection.utils.weights.model_parts import base_name
from luna_collection.utils.weights.safetensors_header import read_safetensors_header
from luna_collection.utils.weights.shelf import Shelf
from safetensors.torch import load_file

from .model_files import CLIP_L, FLUX, SDXL, flux, save, weights

STEM = "diffusion_pytorch_model"


def in_parts(folder: Path, tensors: dict[str, torch.Tensor], count: int = 3) -> list[Path]:
    """Save a model as diffusers does a large one: its tensors in several files, and an index of them."""
    names = sorted(tensors)
    paths = [folder / f"{STEM}-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    for number, path in enumerate(paths):
        save(path, {name: tensors[name] for name in names[number::count]})
    places = {name: paths[n % count].name for n, name in enumerate(names)}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": places})
    (folder / f"{STEM}.safetensors.index.json").write_text(index)
    return paths


@pytest.mark.parametrize("target", ["gguf_Q8_0", "fp8_e4m3fn_scaled"])
def test_a_model_in_parts_becomes_what_it_would_as_a_whole(tmp_path, target):
    folder = tmp_path / "some-model" / "transformer"
    parts = in_parts(folder, weights(FLUX))
    whole = converted_once(flux(tmp_path), target, tmp_path / "whole")

    made = converted_once(parts[1], target, tmp_path / "unet")

    assert made.path.name.startswith("some-model_")
    if made.path.suffix == ".gguf":  # whose tensors are in the order of the source
        one, two = (read_gguf_header(m.path).tensors for m in (made, whole))
        assert {(n, t.type, t.shape) for n, t in one.items()} == {
            (n, t.type, t.shape) for n, t in two.items()
        }
        values = [
            {t.name: t.data.tobytes() for t in gguf.GGUFReader(m.path).tensors}
            for m in (made, whole)
        ]
        assert values[0] == values[1]
    else:
        one, two = load_file(made.path), load_file(whole.path)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[n].float(), two[n].float()) for n in one)
    for other in (parts[0], folder / f"{STEM}.safetensors.index.json"):
        found = converted_once(other, target, tmp_path / "unet")
        assert (found.path, found.made) == (made.path, False)


def test_a_model_in_parts_is_inspected_as_a_whole(tmp_path):
    parts = in_parts(tmp_path / "m", weights(FLUX))

    reports = [inspect_file(path) for path in (parts[0], parts[2])]

    assert reports[0].contents == reports[1].contents == "a diffusion model (Flux)"
    assert reports[0].size == sum(path.stat().st_size for path in parts)
    assert reports[0].types["BF16"].tensors == len(FLUX)


def test_a_part_that_changed_makes_it_anew(tmp_path):
    parts = in_parts(tmp_path / "m", weights(FLUX))
    first = converted_once(parts[1], "gguf_Q8_0", tmp_path / "unet")
    os.utime(parts[2], ns=(1, 2**62))
    index = tmp_path / "m" / f"{STEM}.safetensors.index.json"

    again = converted_once(index, "gguf_Q8_0", tmp_path / "unet")

    assert again.made
    assert again.path == first.path


def test_the_same_precision_puts_the_parts_together(tmp_path):
    parts = in_parts(tmp_path / "m", weights(FLUX))

    found = load_file(converted_once(parts[0], "bf16", tmp_path / "unet").path)

    assert found.keys() == FLUX.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(FLUX).items())


def test_the_list_of_models_knows_a_part_by_all_of_them(tmp_path):
    parts = in_parts(tmp_path / "m", weights(FLUX))
    shelf = Shelf(lambda _: [], lambda _, name: tmp_path / "m" / name)

    assert str(shelf.find("unet", parts[2].name).contents) == "a diffusion model (Flux)"
    parts[0].unlink()
    assert Shelf(lambda _: [], lambda _, n: parts[2]).find("unet", "x").contents == UNKNOWN
    for part in in_parts(tmp_path / "clip", weights(CLIP_L | {"other": (2, 2)}), 2):
        contents = shelf.at(part).contents
        assert (contents == UNKNOWN) is ("other" in load_file(part))


def test_a_part_that_is_missing_is_named(tmp_path):
    parts = in_parts(tmp_path, weights(FLUX))
    parts[1].unlink()

    with pytest.raises(
        ModelFileError, match=r"in 3 parts, and 'diffusion_pytorch_model-00002-of-00003"
    ):
        converted_once(parts[0], "gguf_Q8_0", tmp_path / "unet")


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    parts = in_parts(tmp_path, weights(FLUX), 2)
    parts[1].write_bytes(parts[0].read_bytes())

    with pytest.raises(ModelFileError, match="is in two parts of the model"):
        converted_once(parts[0], "gguf_Q8_0", tmp_path / "unet")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}']
)
def test_an_index_that_is_none_is_named(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)

    with pytest.raises(ModelFileError, match="is not the index of a model in parts"):
        converted_once(index, "gguf_Q8_0", tmp_path / "unet")


def test_of_a_folder_a_model_in_parts_is_one(tmp_path):
    in_parts(tmp_path / "m", weights(FLUX))

    report = convert_folder(Batch(tmp_path / "m", "gguf_Q8_0", tmp_path / "unet", 10))

    assert (report.converted, report.failed, len(report.lines)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/flux.1 dev.safetensors", "flux.1 dev"),
        (f"a/{STEM}.safetensors", "a"),
        (f"some/unet/{STEM}.fp16.safetensors", "some"),
        ("some/transformer/model-00001-of-00002.safetensors", "some"),
        ("a/flux-00001-of-00002.safetensors", "flux"),
        ("some/transformer/model.safetensors.index.json", "some"),
        ("a/flux-F16.gguf", "flux-F16"),
    ],
)
def test_what_a_source_is_called(path, name):
    assert base_name(Path("/") / path) == name


KINDS = {
    "F16": (gguf.GGMLQuantizationType.F16, torch.float16),
    "BF16": (gguf.GGMLQuantizationType.BF16, torch.bfloat16),
    "F32": (gguf.GGMLQuantizationType.F32, torch.float32),
}


def gguf_file(
    path: Path, tensors: dict[str, torch.Tensor], kind: str, architecture: str = "flux"
) -> Path:
    """Save a model as the scripts for GGUF do: small tensors in 32 bits, the others in one type."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    number, dtype = KINDS[kind]
    for name, tensor in tensors.items():
        if tensor.dim() < 2:
            writer.add_tensor(name, tensor.float().numpy())
            continue
        raw = tensor.to(dtype).contiguous().view(torch.uint8).numpy()
        shape = gguf.quant_shape_to_byte_shape(tuple(tensor.shape), number)
        writer.add_tensor(name, np.ascontiguousarray(raw.reshape(shape)), raw_dtype=number)
    for write in (
        "write_header_to_file",
        "write_kv_data_to_file",
        "write_tensors_to_file",
        "close",
    ):
        getattr(writer, write)()
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["gguf_Q4_K_M", "fp8_e4m3fn_scaled", "bf16", "gguf_Q8_0"])
def test_gguf_files_that_are_not_quantised_become_what_safetensors_do(tmp_path, kind, target):
    if (kind, target) == ("BF16", "bf16"):
        target = "fp16"
    tensors = {
        name: tensor.to(KINDS[kind][1] if tensor.dim() > 1 else torch.float32)
        for name, tensor in weights(FLUX, torch.float32).items()
    }
    source = gguf_file(tmp_path / "a.gguf", tensors, kind)
    expected = converted_once(save(tmp_path / "b.safetensors", tensors), target, tmp_path / "unet")

    made = converted_once(source, target, tmp_path / "unet")

    read = read_gguf_header if made.path.suffix == ".gguf" else read_safetensors_header
    one, two = read(made.path).tensors, read(expected.path).tensors
    for name, tensor in two.items():
        assert one[name][:2] == tensor[:2]
    assert made.sidecar.layers == expected.sidecar.layers


@pytest.mark.parametrize(("architecture", "shape"), [("", (640, 640)), ("sdxl", (640, 640, 1, 1))])
def test_linear_layers_of_stable_diffusion_cpp_become_linear(tmp_path, architecture, shape):
    name = "input_blocks.4.1.proj_in.weight"
    tensors = {**weights(SDXL, torch.float16), name: torch.ones(640, 640, 1, 1)}
    others = {f"model.diffusion_model.{n}": t for n, t in tensors.items()}
    source = gguf_file(tmp_path / "a.gguf", others, "F16", architecture)

    made = converted_once(source, "fp8_e4m3fn", tmp_path / "unet").path

    assert read_safetensors_header(made).tensors[name].shape == shape


def test_a_quantised_gguf_file_is_refused(tmp_path):
    small = converted_once(flux(tmp_path), "gguf_Q4_K_M", tmp_path).path

    with pytest.raises(ConversionRefusedError, match="quantised already") as refused:
        converted_once(small, "fp8_e4m3fn", tmp_path)

    assert refused.value.reason is Reason.QUANTISED


def test_marks_and_settings_come_along_from_a_gguf_file(tmp_path):
    tensors = {**weights(FLUX), "v_pred": torch.empty(0)}
    source = save(tmp_path / "a.safetensors", tensors, config='{"x": 1}')
    middle = converted_once(source, "gguf_BF16", tmp_path).path

    made = converted_once(middle, "fp8_e4m3fn", tmp_path).path

    header = read_safetensors_header(made)
    assert header.tensors["v_pred"].shape == (0,)
    assert header.metadata == {"format": "pt", "config": '{"x": 1}'}


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_to_files_and_folders_are_followed_and_keep_their_names(tmp_path):
    blob = flux(tmp_path / "blobs").rename(tmp_path / "blobs" / "0123abcd")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "flux.safetensors").symlink_to(blob)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "checkpoints").symlink_to(folder)
    linked = tmp_path / "models" / "checkpoints" / "flux.safetensors"

    made = converted_once(linked, "gguf_Q8_0", default_folder(linked))

    assert made.path == tmp_path / "models/unet/gguf/flux_Q8_0.gguf"
    assert (
        converted_once(folder / "flux.safetensors", "gguf_Q8_0", default_folder(linked)).path
        == made.path
    )


ODD = {
    "an.index": torch.arange(6, dtype=torch.int64).view(2, 3),
    "of.32": torch.arange(4).to(torch.uint32),
    "of.16": torch.arange(4).to(torch.uint16),
    "a.flag": torch.tensor([True, False]),
    "one.number": torch.tensor(0.5),
    "nothing": torch.empty(0),
    "no.rows.weight": torch.empty(0, 64),
    "double.weight": torch.randn(64, 64, dtype=torch.float64),
    "mit Leerzeichen 模型.weight": torch.randn(128, 128),
}


@pytest.mark.parametrize("target", ["fp8_e4m3fn_scaled", "bf16"])
def test_odd_tensors_come_along(tmp_path, target):
    source = save(tmp_path / "a.safetensors", {**weights(FLUX), **ODD})
    if target == "bf16":
        source = save(tmp_path / "a.safetensors", {**weights(FLUX, torch.float32), **ODD})

    found = load_file(converted_once(source, target, tmp_path / "unet").path)

    assert found.keys() - {n for n in found if n.endswith("_scale")} == {**FLUX, **ODD}.keys()
    for name in ("an.index", "of.32", "of.16", "a.flag"):
        assert found[name].dtype == ODD[name].dtype
        assert found[name].tolist() == ODD[name].tolist()
    assert float(found["one.number"]) == 0.5
    assert found["no.rows.weight"].shape == (0, 64)


def test_odd_tensors_are_in_a_gguf_file_as_loaders_can_read_them(tmp_path):
    source = save(tmp_path / "a.safetensors", {**weights(FLUX), **ODD})

    reader = gguf.GGUFReader(converted_once(source, "gguf_Q8_0", tmp_path).path)

    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert {name for name in ODD if ODD[name].numel()} == found.keys() - FLUX.keys()
    assert found["an.index"].tolist() == ODD["an.index"].tolist()
    assert found["of.16"].dtype == np.int16
    assert found["one.number"].tolist() == [0.5]
    # Shapes of no dimensions are not noted: the usual loader refuses an empty list.
    assert not [key for key in reader.fields if "orig_shape.one.number" in key]


def test_complex_numbers_have_no_place_in_gguf(tmp_path):
    tensors = {**weights(FLUX), "freqs_cis": torch.zeros(4, dtype=torch.complex64)}
    source = save(tmp_path / "a.safetensors", tensors)

    with pytest.raises(
        ConversionRefusedError, match=r"'freqs_cis' in 'a.safetensors' is of the type C64"
    ):
        converted_once(source, "gguf_Q8_0", tmp_path)
    assert load_file(converted_once(source, "fp8_e4m3fn", tmp_path).path)["freqs_cis"].is_complex()


def checkpoint_with_small_encoder(path: Path, note: str, **more: torch.Tensor) -> Path:
    model = {f"model.diffusion_model.{name}": t for name, t in weights(FLUX).items()}
    layer = "text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo"
    small = torch.zeros(64, 64, dtype=torch.float8_e4m3fn)
    encoder = {f"{layer}.weight": small, f"{layer}.weight_scale": torch.tensor(1.0)}
    metadata = {
        "_quantization_metadata": json.dumps(
            {"layers": {note or layer: {"format": "float8_e4m3fn"}}}
        )
    }
    return save(path, {**model, **encoder, **more}, **metadata)


def test_only_the_text_encoder_of_a_checkpoint_is_quantised(tmp_path):
    source = checkpoint_with_small_encoder(tmp_path / "a.safetensors", "")

    plain = converted_once(source, "fp16", tmp_path).path
    scaled = converted_once(source, "fp8_e4m3fn_scaled", tmp_path).path

    assert "_quantization_metadata" not in read_safetensors_header(plain).metadata
    note = json.loads(read_safetensors_header(scaled).metadata["_quantization_metadata"])
    assert note["layers"].keys() <= {name.removesuffix(".weight") for name in FLUX}


PACKED = {  # what others' quantised files look like
    "svdquant": {
        "transformer_blocks.0.mlp_fc1.qweight": torch.zeros(64, 32, dtype=torch.int8),
        "transformer_blocks.0.mlp_fc1.wscales": torch.zeros(1, 64, dtype=torch.bfloat16),
    },
    "bitsandbytes nf4": {
        "double_blocks.0.img_mlp.0.weight": torch.zeros(2048, 1, dtype=torch.uint8),
        "double_blocks.0.img_mlp.0.weight.absmax": torch.zeros(64),
        "double_blocks.0.img_mlp.0.weight.quant_state.bitsandbytes__nf4": torch.zeros(
            9, dtype=torch.uint8
        ),
    },
    "comfy_quant": {
        "double_blocks.0.img_mlp.0.comfy_quant": torch.zeros(30, dtype=torch.uint8),
        "double_blocks.0.img_mlp.0.weight_scale": torch.tensor(1.0),
    },
    "scaled_fp8": {
        "double_blocks.0.img_mlp.0.scale_weight": torch.tensor(1.0),
        "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn),
    },
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_quantised_files_of_others_are_told_from_unknown_ones(tmp_path, kind, prefix):
    tensors = PACKED[kind] if kind == "svdquant" else {**weights(FLUX), **PACKED[kind]}
    source = save(tmp_path / "a.safetensors", {f"{prefix}{n}": t for n, t in tensors.items()})

    with pytest.raises(ConversionRefusedError) as refused:
        converted_once(source, "gguf_Q8_0", tmp_path)

    assert refused.value.reason is Reason.QUANTISED


def test_layers_that_only_the_metadata_call_quantised(tmp_path):
    name = "model.diffusion_model.double_blocks.0.img_mlp.0"
    source = checkpoint_with_small_encoder(tmp_path / "a.safetensors", name)

    with pytest.raises(ConversionRefusedError) as refused:
        converted_once(source, "gguf_Q8_0", tmp_path)

    assert refused.value.reason is Reason.QUANTISED

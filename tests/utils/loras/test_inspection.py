"""What is told of a LoRA file without loading it, and which files are no LoRAs."""

from __future__ import annotations

import struct

import pytest
from luna_collection.utils.loras.inspection import inspect_lora
from luna_collection.utils.loras.reports import file_report

from .lora_files import layer, write_lora

ATTENTION = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"


def inspected(tmp_path, shapes, **more):
    return inspect_lora(write_lora(tmp_path / "a.safetensors", shapes, **more), "a.safetensors")


def test_a_lora_is_described(tmp_path):
    shapes = {
        **layer(ATTENTION, 16, 2048),
        **layer("lora_te1_x", 8, 768),
        **layer("lora_te2_x", 16),
    }
    half = struct.pack("<e", 8.0)
    values = {name: half for name in shapes if name.endswith(".alpha")}
    file = inspected(tmp_path, shapes, values=values)
    assert file.problems == ()
    assert (file.kinds, file.ranks, file.alphas) == ({"LoRA": 6}, {16: 2, 8: 1}, (8.0,))
    assert (file.base_model.name, file.base_model.source) == ("SDXL", "its tensors")
    assert (file.dtypes, file.tensors, file.unknown) == ({"F16": 9}, 9, {})
    report = file_report([file])
    assert "rank        16 (2 ×), 8 (1 ×)" in report
    assert "alpha       8\n" in report


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        ("F32", struct.pack("<f", 3.5)),
        ("BF16", struct.pack("<f", 3.5)[2:]),
        ("F16", struct.pack("<e", 3.5)),
    ],
)
def test_alpha_is_read_in_every_float_type(tmp_path, dtype, raw):
    file = inspected(tmp_path, layer("a"), dtype=dtype, values={"a.alpha": raw})
    assert file.alphas == (3.5,)


@pytest.mark.parametrize(
    ("names", "kind", "ranks"),
    [
        ({"x.lora_A.weight": (4, 8), "x.lora_B.weight": (8, 4)}, "LoRA", {4: 1}),
        ({"x.lora.down.weight": (2, 8), "x.lora.up.weight": (8, 2)}, "LoRA", {2: 1}),
        (
            {"x.hada_w1_a": (8, 4), "x.hada_w1_b": (4, 8), "x.hada_w2_a": (8, 4), "x.hada_w2_b": (4, 8)},
            "LoHa", {4: 1},
        ),
        ({"x.lokr_w1": (2, 2), "x.lokr_w2_a": (4, 2), "x.lokr_w2_b": (2, 4)}, "LoKr", {2: 1}),
        ({"x.diff": (8, 8), "x.diff_b": (8,)}, "full difference", {}),
        ({"x.oft_blocks": (2, 4, 4)}, "OFT", {}),
    ],
)  # fmt: skip
def test_every_kind_of_adapter_is_known(tmp_path, names, kind, ranks):
    file = inspected(tmp_path, names)
    assert (list(file.kinds), file.ranks, file.problems) == ([kind], ranks, ())


@pytest.mark.parametrize(
    ("metadata", "shapes", "base"),
    [
        ({"ss_base_model_version": "sd_v1"}, layer("a"), "SD1.5"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, layer("a"), "SDXL"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, layer("a"), "Flux"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, layer("a"), "SDXL"),
        ({"ss_base_model_version": "zimage"}, layer("a"), "Z-Image"),
        ({"ss_base_model_version": "strange"}, layer(ATTENTION, 4, 768), "SD1.5"),
        ({}, layer(ATTENTION, 4, 1024), "SD2"),
        ({}, layer("lora_unet_double_blocks_0_img_attn_qkv", 4, 3072), "Flux"),
        ({}, layer("transformer.single_transformer_blocks.0.attn.to_q"), "Flux"),
        ({}, layer("transformer_blocks.0.img_mlp.net.0.proj", 4, 3072), "Qwen-Image"),
        ({}, layer("diffusion_model.layers.0.attention.qkv", 4, 3840), "Z-Image"),
        ({}, layer("diffusion_model.blocks.0.self_attn.q", 4, 5120), "Wan"),
        ({}, layer("diffusion_model.joint_blocks.0.x_block.attn.qkv"), "SD3"),
        ({}, layer("transformer.transformer_blocks.0.attn.add_q_proj", 4, 1536), "SD3"),
        ({}, layer("something.else"), ""),
    ],
)
def test_the_base_model_is_told(tmp_path, metadata, shapes, base):
    assert inspected(tmp_path, shapes, metadata=metadata).base_model.name == base


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b"", "it is empty"),
        (b"\x10\0\0\0\0\0\0\0{not json, at all", "not valid JSON"),
        (b"\xff" * 20, "its header should have"),
        (b"PK\x03\x04" + b"\0" * 60, "damaged or not a safetensors file"),
    ],
)
def test_what_is_no_model_is_said_in_words(tmp_path, content, said):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    (problem,) = inspect_lora(path, "a.safetensors").problems
    assert said in problem


def test_every_cut_of_a_file_is_noticed(tmp_path):
    path = write_lora(tmp_path / "a.safetensors", layer("a", 1, 2, 2))
    whole = path.read_bytes()
    assert inspect_lora(path, "a").problems == ()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(inspect_lora(path, "a").problems) == 1, length


def test_files_that_can_hold_programs_are_not_opened(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"PK")
    assert "not opened" in inspect_lora(path, "a.pt").problems[0]


def test_a_missing_file_is_a_problem_of_its_own(tmp_path):
    assert "cannot be read" in inspect_lora(tmp_path / "a.safetensors", "a").problems[0]


def test_half_a_layer_and_foreign_tensors_are_problems(tmp_path):
    half = inspected(tmp_path, {**layer("a"), "b.lora_down.weight": (4, 8)})
    assert (
        "1 layers have only one half of their weights, such as 'b.lora_down.weight'"
        in half.problems[0]
    )
    foreign = inspected(tmp_path, {**layer("a"), **{f"x.{n}.magic": (1,) for n in range(5)}})
    assert foreign.unknown == {"x.magic": 5}
    assert "of a kind that no LoRA has" in foreign.problems[0]
    empty = inspected(tmp_path, {"a.lora_down.weight": (0, 8), "a.lora_up.weight": (8, 0)})
    assert "2 tensors are empty" in empty.problems[0]
    wide = {"a.lora_down.weight": (4, 8), "a.lora_up.weight": (8, 4), "a.alpha": (4,)}
    assert "'a.alpha' is no single number" in inspected(tmp_path, wide).problems[0]
    assert not inspected(tmp_path, {**wide, "a.alpha": (1,)}).problems


def test_another_kind_of_model_is_named(tmp_path):
    file = inspected(tmp_path, {"decoder.conv_in.weight": (512, 4, 3, 3)})
    assert "It is a VAE." in file.problems[0]
    assert "no tensors" in inspected(tmp_path, {}).problems[0]


def test_the_report_begins_with_what_is_damaged(tmp_path):
    good = inspected(tmp_path, layer("a"))
    bad = inspect_lora(tmp_path / "none.safetensors", "bad.safetensors")
    lines = file_report([good, bad]).splitlines()
    assert lines[0] == "2 LoRA files, 1 of them with problems."
    assert lines.index("bad.safetensors") < lines.index("a.safetensors")

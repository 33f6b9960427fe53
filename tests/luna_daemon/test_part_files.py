"""Parts of ComfyUI: which files they mean, what identifies them, what is not opened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import numpy
import pytest
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError
from luna_collection.luna_daemon.model_locator import ModelLocator
from luna_collection.luna_daemon.part_files import is_unchanged, part_spec, parts_of_models
from luna_collection.luna_daemon.protocol.messages import ModelPart


def write(path: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """Write a safetensors file of half precision, all zero."""
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, count = end, 2
        for size in shape:
            count *= size
        end = begin + count
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return path


@pytest.fixture
def locator(tmp_path: Path) -> ModelLocator:
    write(tmp_path / "te" / "l.safetensors", {"a": (4, 4)})
    write(tmp_path / "te" / "g.safetensors", {"a": (8, 4)})
    write(
        tmp_path / "checkpoints" / "all.safetensors",
        {
            "model.diffusion_model.x": (64, 64),
            "cond_stage_model.a": (4, 4),
            "first_stage_model.a": (2, 2),
        },
    )
    for name in ("old.ckpt", "old.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    return ModelLocator([tmp_path])


def clip(*files: str, **options: str) -> ModelPart:
    return ModelPart(kind="clip", files=files, options=options)


def spec(locator, part, numerics="n", role="it"):
    return part_spec(locator, role, part, numerics)


def test_files_are_told_in_their_order(locator):
    found = spec(locator, clip("te/l.safetensors", "te/g.safetensors", clip_type="SDXL"))
    assert [Path(p).name for p in (found.path, *found.more_paths)] == [
        "l.safetensors",
        "g.safetensors",
    ]
    assert (found.kind, found.options["clip_type"]) == ("clip", "SDXL")
    assert found.nbytes == 32 + 64


def test_a_name_of_the_client_does_not_count(locator):
    part = clip("te/l.safetensors")
    assert spec(locator, part, role="mine").key == spec(locator, part, role="yours").key


@pytest.mark.parametrize(
    ("part", "numerics"),
    [
        pytest.param(clip("te/l.safetensors", dtype="float32"), "n", id="options"),
        pytest.param(clip("te/g.safetensors"), "n", id="file"),
        pytest.param(clip("te/l.safetensors", "te/g.safetensors"), "n", id="files"),
        pytest.param(ModelPart(kind="vae", files=("te/l.safetensors",)), "n", id="kind"),
        pytest.param(clip("te/l.safetensors"), "m", id="numerics"),
    ],
)
def test_whatever_decides_about_values_makes_another_key(locator, part, numerics):
    plain = spec(locator, clip("te/l.safetensors")).key
    assert spec(locator, part, numerics).key != plain


def test_a_clip_type_is_the_same_in_small_letters(locator):
    keys = {
        spec(locator, clip("te/l.safetensors", clip_type=name)).key for name in ("SDXL", "sdxl")
    }
    assert len(keys) == 1


def test_the_order_of_files_makes_another_key(locator):
    names = ("te/l.safetensors", "te/g.safetensors")
    assert spec(locator, clip(*names)).key != spec(locator, clip(*reversed(names))).key


def test_of_a_checkpoint_only_the_part_counts_for_memory(locator):
    baked = clip("checkpoints/all.safetensors", checkpoint="1")
    assert spec(locator, baked).nbytes == 32
    vae = ModelPart(
        kind="vae",
        files=("checkpoints/all.safetensors",),
        options={"checkpoint": "1", "dtype": "float32"},
    )
    assert spec(locator, vae).nbytes == 16


@pytest.mark.parametrize("name", ["old.ckpt", "old.pt"])
def test_what_can_run_code_is_refused(locator, name):
    with pytest.raises(BadRequestError, match=f"'{name}' for 'it' is not a .safetensors file"):
        spec(locator, clip(name))


def test_text_encoders_may_be_gguf_files(locator):
    root = locator.roots[0]
    writer = gguf.GGUFWriter(root / "te" / "t5.gguf", "t5encoder")
    writer.add_tensor("token_embd.weight", numpy.zeros((4, 8), dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    one = spec(locator, clip("te/t5.gguf", dtype="float32"))
    assert (one.path.endswith("t5.gguf"), one.nbytes) == (True, 64)
    assert spec(locator, clip("te/t5.gguf", dtype="float16")).key != one.key
    for part in (
        ModelPart(kind="vae", files=("te/t5.gguf",)),
        clip("te/t5.gguf", checkpoint="1"),
    ):
        with pytest.raises(BadRequestError, match="of those the daemon opens text encoders only"):
            spec(locator, part)
    (root / "te" / "t5.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadRequestError, match=r"'t5\.gguf' is damaged or not a GGUF file"):
        spec(locator, clip("te/t5.gguf"))


def test_a_folder_is_refused_with_the_other_engine(locator):
    with pytest.raises(BadRequestError, match="'te' for 'it' is a folder") as told:
        spec(locator, clip("te"))
    assert "engine=hf" in told.value.hint


def test_what_lies_elsewhere_does_not_exist(locator, tmp_path_factory):
    other = write(tmp_path_factory.mktemp("other") / "x.safetensors", {"a": (1,)})
    with pytest.raises(NotFoundError):
        spec(locator, clip(str(other)))


def test_only_text_encoders_have_several_files(locator):
    part = ModelPart(kind="vae", files=("te/l.safetensors", "te/g.safetensors"))
    with pytest.raises(BadRequestError, match="one file"):
        spec(locator, part)


def test_weights_held_in_fp32_are_other_ones_and_take_their_room(locator, tmp_path):
    part = clip("te/l.safetensors", dtype="float16")
    plain, held = spec(locator, part), part_spec(locator, "it", part, "n", "fp32")
    assert held.key != plain.key
    assert (plain.precision, held.precision) == ("float16", "float32")
    assert held.nbytes == 2 * plain.nbytes
    assert held.options == plain.options, "what ComfyUI is told stays the same"
    assert is_unchanged(locator, held)
    os.utime(tmp_path / "te" / "l.safetensors", ns=(0, 1))
    assert not is_unchanged(locator, held)


def test_only_fp32_holds_text_encoders_otherwise_than_comfyui_does(locator):
    part = clip("te/l.safetensors", dtype="float16")
    for precision in ("auto", "bf16", "file"):
        assert part_spec(locator, "it", part, "n", precision) == spec(locator, part)
    for same in (
        clip("te/l.safetensors", dtype="float32"),
        ModelPart(kind="vae", files=("te/l.safetensors",), options={"dtype": "bfloat16"}),
    ):
        assert part_spec(locator, "it", same, "n", "fp32") == spec(locator, same)


def test_a_file_that_changed_is_noticed(locator, tmp_path):
    found = spec(locator, clip("te/l.safetensors", "te/g.safetensors", dtype="float16"))
    assert is_unchanged(locator, found)
    file = tmp_path / "te" / "g.safetensors"
    os.utime(file, ns=(0, 1))
    assert not is_unchanged(locator, found)
    file.unlink()
    assert not is_unchanged(locator, found)


AUTO = {"clip": "auto", "vae": "auto"}


def test_encoders_that_a_script_names_become_one_part():
    models = {"vae": "v.safetensors", "clip_g": "g.safetensors", "clip_l": "l.safetensors"}
    parts, roles = parts_of_models(models, "SDXL", AUTO, {})
    assert parts["clip"].files == ("l.safetensors", "g.safetensors")
    assert parts["vae"] == ModelPart(kind="vae", files=("v.safetensors",))
    assert roles == {"clip_l": "clip", "clip_g": "clip", "vae": "vae"}


@pytest.mark.parametrize(
    ("precision", "numerics", "dtype"),
    [
        ("auto", {}, "float16"),
        ("auto", {"bf16_text_enc": "on"}, "bfloat16"),
        ("fp32", {"bf16_text_enc": "on"}, "bfloat16"),  # part_spec does the rest, for all
        ("bf16", {}, "bfloat16"),
        ("file", {}, "float16"),
    ],
)
def test_a_script_shares_weights_with_comfyui_by_its_element_type(precision, numerics, dtype):
    precisions = {"clip": precision, "vae": "auto"}
    parts, _ = parts_of_models({"clip_l": "l"}, "SD1.5", precisions, numerics)
    assert parts["clip"].options == {"clip_type": "STABLE_DIFFUSION", "dtype": dtype}

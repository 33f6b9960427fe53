"""What a second model shares with the first, with files that have nothing but a header."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.model_types import find_model_type
from luna_collection.utils.routing.encoder_sharing import places_of
from luna_collection.utils.routing.second_model import (
    SecondChoice,
    SecondPlan,
    make_second_plan,
    names_of_types,
    second_fingerprint,
)
from luna_collection.utils.weights.shelf import Shelf

CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}
CLIP_G = {**CLIP_L, "text_model.encoder.layers.30.mlp.fc1.weight": (5120, 1280)}
T5 = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)}
QWEN3 = {
    "model.layers.0.post_attention_layernorm.weight": (2560,),
    "model.layers.0.self_attn.q_norm.weight": (128,),
}
TO_K = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
SDXL = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (640, 2048)}
SD15 = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (320, 768)}
OTHER = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (320, 1024)}
SD3 = {"joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)}
FLUX = {
    "img_in.weight": (3072, 64),
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "vector_in.in_layer.weight": (3072, 768),
}
VAE = {"decoder.conv_in.weight": (512, 4, 3, 3)}


def checkpoint(model, **parts):
    names = {"clip": "cond_stage_model.transformer.", "l": "conditioner.embedders.0.transformer."}
    names |= {"g": "conditioner.embedders.1.model.", "vae": "first_stage_model."}
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in model.items()}
    for part, tensors in parts.items():
        shapes |= {names[part] + name: shape for name, shape in tensors.items()}
    return shapes


FILES = {
    "checkpoints/sd15": checkpoint(SD15, clip=CLIP_L, vae=VAE),
    "checkpoints/sdxl": checkpoint(SDXL, l=CLIP_L, g={"ln_final.weight": (1280,)}, vae=VAE),
    "checkpoints/sdxl_alone": checkpoint(SDXL),
    "checkpoints/sd2": checkpoint(OTHER, clip=CLIP_L),
    "diffusion_models/sd3": SD3,
    "diffusion_models/flux": FLUX,
    "text_encoders/l": CLIP_L,
    "text_encoders/g": CLIP_G,
    "text_encoders/t5_fp16": T5,
    "text_encoders/t5_fp8": T5,
    "text_encoders/qwen": QWEN3,
    "vae/sd": VAE,
}
ALL = frozenset({"model", "clip", "vae"})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    for name, shapes in FILES.items():
        table, end = {}, 0
        for key, shape in shapes.items():
            begin, end = end, end + 2 * math.prod(shape)
            table[key] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
        header = json.dumps(table).encode()
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + end)

    def path_of(folder: str, name: str) -> Path | None:
        path = tmp_path / folder / name
        return path if path.is_file() else None

    return Shelf(lambda folder: sorted(p.name for p in (tmp_path / folder).iterdir()), path_of)


def choose(name, kind="Auto", **more):
    source = "checkpoints" if f"checkpoints/{name}" in FILES else "diffusion_models"
    return SecondChoice(source, f"{name}.safetensors", kind, **{"wanted": ALL, **more})


def encoders(plan: SecondPlan) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what is shared, and the files of what is not."""
    assert plan.encoders is not None
    added = {role: one.file.name.split(".")[0] for role, one in plan.encoders.added.items()}
    return plan.encoders.shared, added


@pytest.mark.parametrize(
    ("name", "has", "shared", "added"),
    [
        ("sdxl", ("clip_l", "clip_g"), ("clip_l", "clip_g"), {}),
        ("sd15", ("clip_l", "clip_g"), ("clip_l",), {}),
        ("sdxl", ("clip_l",), ("clip_l",), {"clip_g": "sdxl"}),
        ("sdxl_alone", ("clip_l",), ("clip_l",), {"clip_g": "g"}),
        ("sd3", ("clip_l", "t5xxl"), ("clip_l", "t5xxl"), {"clip_g": "g"}),
        ("sdxl", ("qwen3",), (), {"clip_l": "sdxl", "clip_g": "sdxl"}),
        ("sd15", (), (), {"clip_l": "sd15"}),
    ],
)
def test_what_both_need_is_shared_and_the_rest_is_found(shelf, name, has, shared, added):
    plan = make_second_plan(choose(name, has=has, wanted=frozenset({"clip"})), shelf)
    assert encoders(plan) == (shared, added)
    assert plan.plan.model is None
    assert plan.plan.vae is None


def test_a_chosen_encoder_goes_before_one_that_is_shared(shelf):
    choice = choose("sdxl", has=("clip_l", "clip_g"), additional_clip="g.safetensors")
    assert encoders(make_second_plan(choice, shelf)) == (("clip_l",), {"clip_g": "g"})


def test_several_that_fit_are_told_and_one_can_be_chosen(shelf):
    choice = choose("sd3", has=("clip_l", "clip_g"), wanted=frozenset({"clip"}))
    with pytest.raises(InputError, match=r"T5-XXL.*several files fit.*t5_fp16.*additional_clip"):
        make_second_plan(choice, shelf)
    chosen = choose(
        "sd3",
        has=("clip_l", "clip_g"),
        wanted=frozenset({"clip"}),
        additional_clip="t5_fp8.safetensors",
    )
    assert encoders(make_second_plan(chosen, shelf)) == (
        ("clip_l", "clip_g"),
        {"t5xxl": "t5_fp8"},
    )


def test_an_encoder_of_another_family_is_refused(shelf):
    choice = choose("sdxl", additional_clip="t5_fp8.safetensors")
    with pytest.raises(InputError, match=r"additional_clip: 't5_fp8.*SDXL takes CLIP-L, CLIP-G"):
        make_second_plan(choice, shelf)
    missing = choose("sdxl", additional_clip="nowhere.safetensors")
    with pytest.raises(InputError, match=r"there is no file 'nowhere"):
        make_second_plan(missing, shelf)


def test_a_part_says_what_to_take_out_of_which_file(shelf):
    plan = make_second_plan(choose("sdxl", has=("clip_l",)), shelf)
    first = shelf.find("checkpoints", "sd15.safetensors")
    assert plan.encoders is not None
    part = plan.encoders.part(places_of([first], ()))
    assert [file.name for file in part.files] == ["sd15.safetensors", "sdxl.safetensors"]
    assert part.inside == ("clip_l", "clip_g")
    assert not part.checkpoint
    files = places_of([shelf.find("text_encoders", "l.safetensors")], ())
    assert plan.encoders.part(files).inside == ("", "clip_g")


def test_all_of_one_checkpoint_is_loaded_as_the_router_loads_it(shelf):
    plan = make_second_plan(choose("sdxl"), shelf)
    assert plan.encoders is not None
    part = plan.encoders.part({})
    assert part.checkpoint
    assert len(part.files) == 1


def test_a_set_that_was_put_together_says_where_its_encoders_are(shelf):
    files = [shelf.find("checkpoints", f"{name}.safetensors") for name in ("sd15", "sdxl")]
    found = places_of(files, ("clip_l", "clip_g"))
    assert {role: (one.file.name, one.inside) for role, one in found.items()} == {
        "clip_l": ("sd15.safetensors", True),
        "clip_g": ("sdxl.safetensors", True),
    }


def test_only_the_same_family_takes_the_encoders_as_they_are(shelf):
    plan = make_second_plan(choose("sdxl", has=("clip_l", "clip_g")), shelf)
    assert plan.encoders is not None
    assert plan.encoders.is_all_of(("clip_g", "clip_l"), "SDXL")
    assert not plan.encoders.is_all_of(("clip_g", "clip_l"), "")
    assert not plan.encoders.is_all_of(("clip_l", "clip_g", "t5xxl"), "SD3")


def test_a_checkpoint_of_an_unknown_family_brings_its_own(shelf):
    plan = make_second_plan(choose("sd2", wanted=frozenset({"clip"}), has=("clip_l",)), shelf)
    assert plan.encoders is not None
    assert plan.encoders.part({}).checkpoint
    assert plan.encoders.shared == ()


@pytest.mark.parametrize(
    ("name", "first", "keeps", "vae"),
    [
        ("sdxl_alone", "SDXL", True, None),
        ("sdxl", "SDXL", False, "sdxl"),
        ("sdxl_alone", "SD1.5", False, "sd"),
        ("sdxl_alone", "", False, "sd"),
    ],
)
def test_the_vae_is_its_own_or_the_firsts_of_the_same_family(shelf, name, first, keeps, vae):
    plan = make_second_plan(
        choose(name, wanted=frozenset({"vae"}), has_vae=True, first_family=first), shelf
    )
    assert plan.keeps_vae is keeps
    found = plan.plan.vae.file.name.split(".")[0] if plan.plan.vae else None
    assert found == vae


def test_a_chosen_vae_is_taken(shelf):
    choice = choose("sdxl", wanted=frozenset({"vae"}), secondary_vae="sd.safetensors", has_vae=True)
    plan = make_second_plan(choice, shelf)
    assert plan.plan.vae is not None
    assert plan.plan.vae.file.name == "sd.safetensors"


def test_the_fingerprint_follows_the_files(shelf):
    choice = choose("sdxl", additional_clip="g.safetensors")
    before = second_fingerprint(choice, shelf)
    assert before == second_fingerprint(choice, shelf)
    file = shelf.find("text_encoders", "g.safetensors")
    assert file is not None
    os.utime(file.path, ns=(1, 1))
    assert second_fingerprint(choice, shelf) != before
    assert second_fingerprint(choose("sdxl", wanted=frozenset({"vae"})), shelf) != before


def test_every_type_that_can_be_chosen_has_text_encoders():
    assert all(find_model_type(name).text_encoders for name in names_of_types())

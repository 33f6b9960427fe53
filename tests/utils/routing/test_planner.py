"""From a choice to a plan, with files that have nothing but a header."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.routing.choice import Choice
from luna_collection.utils.routing.fingerprint import fingerprint
from luna_collection.utils.routing.planner import make_plan
from luna_collection.utils.weights.shelf import Shelf

Shapes = Mapping[str, tuple[int, ...]]
CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}
CLIP_G = {**CLIP_L, "text_model.encoder.layers.30.mlp.fc1.weight": (5120, 1280)}
T5 = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)}
QWEN3 = {
    "model.layers.0.post_attention_layernorm.weight": (2560,),
    "model.layers.0.self_attn.q_norm.weight": (128,),
}
SD_VAE = {"decoder.conv_in.weight": (512, 4, 3, 3)}
FLUX_VAE = {"decoder.conv_in.weight": (512, 16, 3, 3)}
TO_K = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
SDXL = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (640, 2048)}
SD15 = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (320, 768)}
FLUX = {
    "img_in.weight": (3072, 64),
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "vector_in.in_layer.weight": (3072, 768),
}
Z_IMAGE = {
    "cap_embedder.1.weight": (3840, 2560),
    "noise_refiner.0.attention.k_norm.weight": (128,),
}
VISION = {"vision_model.encoder.layers.0.layer_norm1.weight": (1280,)}
LORA = {"x.lora_down.weight": (4, 4)}
IP_ADAPTER = {"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.a": (1,)}


def under(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in shapes.items()}


WHOLE_SD15 = {
    **under("model.diffusion_model.", SD15),
    **under("cond_stage_model.transformer.", CLIP_L),
    **under("first_stage_model.", SD_VAE),
}
FILES: dict[str, dict[str, Shapes | None]] = {
    "checkpoints": {
        "sd15.safetensors": WHOLE_SD15,
        "sdxl_alone.safetensors": under("model.diffusion_model.", SDXL),
        "old.ckpt": None,
        "lora.safetensors": LORA,
    },
    "diffusion_models": {
        "sdxl.safetensors": SDXL,
        "flux.safetensors": FLUX,
        "z_image.safetensors": Z_IMAGE,
        "strange.safetensors": {"weight": (1,)},
    },
    "text_encoders": {
        "clip_l.safetensors": CLIP_L,
        "clip_g.safetensors": CLIP_G,
        "t5_fp16.safetensors": T5,
        "t5_fp8.safetensors": T5,
        "qwen3/qwen3.safetensors": QWEN3,
    },
    "vae": {
        "sd.safetensors": SD_VAE,
        "ae.safetensors": FLUX_VAE,
        "lora.safetensors": LORA,
    },
    "clip_vision": {"clip_h.safetensors": VISION, "clip_l.safetensors": CLIP_L},
    "ipadapter": {"sd15.safetensors": IP_ADAPTER},
}
ALL = frozenset({"model", "clip", "vae"})


def write_header(path: Path, shapes: Shapes) -> None:
    table, position = {}, 0
    for name, shape in shapes.items():
        nbytes = 2 * math.prod(shape)
        span = [position, position + nbytes]
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": span}
        position += nbytes
    header = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + position)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for folder, files in FILES.items():
        for name, shapes in files.items():
            path = tmp_path / folder / name
            if shapes is None:
                path.write_bytes(b"a pickle, which nobody opens")
            else:
                write_header(path, shapes)
    return tmp_path


@pytest.fixture
def shelf(models: Path) -> Shelf:
    def names_in(folder: str) -> list[str]:
        root = models / folder
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.*") if p.is_file())

    def path_of(folder: str, name: str) -> Path | None:
        path = models / folder / name
        return path if path.is_file() else None

    return Shelf(names_in, path_of)


def choose(name: str, kind: str = "Auto", **more: object) -> Choice:
    source = "checkpoints" if name in FILES["checkpoints"] else "diffusion_models"
    return Choice(
        **{"model_source": source, "model_name": name, "model_type": kind, "wanted": ALL, **more}
    )


def slots(**files: str) -> dict[str, str]:
    return {slot: f"{name}.safetensors" for slot, name in files.items()}


def problems(choice: Choice, shelf: Shelf) -> list[str]:
    with pytest.raises(InputError) as refused:
        make_plan(choice, shelf)
    first, *listed = refused.value.message.split("\n• ")
    assert first == "The models that are chosen cannot be loaded:"
    return listed


def names(files) -> list[str]:
    return [file.name for file in files]


# Auto


def test_auto_takes_everything_from_a_checkpoint_that_has_it(shelf):
    plan = make_plan(choose("sd15.safetensors"), shelf)
    assert plan.model_type == "SD1.5"
    assert plan.clip.checkpoint
    assert plan.vae.checkpoint
    assert plan.notes == ("Auto: 'sd15.safetensors' is a checkpoint (SD1.5) with CLIP-L, VAE.",)


def test_auto_takes_the_one_file_that_fits_and_says_so(shelf):
    plan = make_plan(choose("sdxl.safetensors"), shelf)
    assert (plan.model_type, plan.clip.checkpoint) == ("SDXL", False)
    assert names(plan.clip.files) == ["clip_l.safetensors", "clip_g.safetensors"]
    assert plan.vae.file.name == "sd.safetensors"
    assert "Auto took 'clip_g.safetensors' as CLIP-G." in plan.notes


def test_auto_does_not_choose_between_files_that_fit(shelf):
    listed = problems(choose("flux.safetensors"), shelf)
    assert listed == [
        "T5-XXL: Flux needs it, and several files fit. On this machine would fit: "
        "'t5_fp16.safetensors', 't5_fp8.safetensors'. Choose one with model_type 'Flux'."
    ]


def test_auto_says_which_kind_of_file_is_missing(shelf, models):
    (models / "text_encoders/clip_g.safetensors").unlink()
    (models / "vae/sd.safetensors").unlink()
    assert problems(choose("sdxl.safetensors"), shelf) == [
        "CLIP-G: SDXL needs it, and nothing fits. No file in models/text_encoders is a fitting "
        "CLIP-G: put one there.",
        "VAE: SDXL needs it, and nothing fits. No file in models/vae is a fitting VAE: put one there.",
    ]


def test_auto_takes_an_unreadable_checkpoint_for_a_whole_one(shelf):
    plan = make_plan(choose("old.ckpt"), shelf)
    assert (plan.model_type, plan.clip.checkpoint, plan.vae.checkpoint) == ("Other", True, True)


def test_auto_does_not_guess_the_encoders_of_an_unknown_model(shelf):
    (listed,) = problems(choose("strange.safetensors", vae_name="sd.safetensors"), shelf)
    assert listed.startswith(
        "model_type: Auto cannot tell which text encoders 'strange.safetensors' needs"
    )


# A chosen type


def test_files_are_loaded_in_the_order_of_the_family(shelf):
    given = {"clip_g": "clip_g.safetensors", "clip_l": "clip_l.safetensors"}
    plan = make_plan(
        choose("sdxl.safetensors", "SDXL", slots=given, vae_name="sd.safetensors"), shelf
    )
    assert names(plan.clip.files) == ["clip_l.safetensors", "clip_g.safetensors"]
    assert plan.clip.clip_type == "STABLE_DIFFUSION"


def test_everything_that_is_missing_is_said_at_once_with_what_would_do(shelf):
    given = {"clip_l": "None", "t5xxl": "clip_g.safetensors"}
    choice = choose("flux.safetensors", "Flux", slots=given, vae_name="sd.safetensors")
    assert problems(choice, shelf) == [
        "clip_l: Flux needs CLIP-L, and nothing is chosen. On this machine would fit: "
        "'clip_l.safetensors'.",
        "t5xxl: 'clip_g.safetensors' is a text encoder (clip_g), not T5-XXL. On this machine would "
        "fit: 't5_fp16.safetensors', 't5_fp8.safetensors'.",
        "vae_name: 'sd.safetensors' is for latents of 4 channels; those of Flux have 16. On this "
        "machine would fit: 'ae.safetensors'.",
    ]


def test_what_is_not_linked_is_neither_loaded_nor_asked_for(shelf):
    choice = choose("flux.safetensors", "Flux", wanted=frozenset({"model"}))
    plan = make_plan(choice, shelf)
    assert (plan.model.name, plan.clip, plan.vae) == ("flux.safetensors", None, None)


def test_with_nothing_linked_no_model_is_needed(shelf):
    plan = make_plan(choose("None", wanted=frozenset()), shelf)
    assert (plan.model, plan.model_name) == (None, "")


def test_text_encoders_alone_need_no_model(shelf):
    choice = choose("None", "SD1.5", slots=slots(clip_l="clip_l"), wanted=frozenset({"clip"}))
    assert names(make_plan(choice, shelf).clip.files) == ["clip_l.safetensors"]


def test_without_a_model_nothing_can_come_from_it(shelf):
    assert problems(choose("None", "SD1.5", slots={"clip_l": "from checkpoint"}), shelf) == [
        "model_name: nothing is chosen. Choose a model."
    ]


def test_a_type_that_the_file_is_not_is_refused(shelf):
    choice = choose("sd15.safetensors", "SDXL", wanted=frozenset({"model"}))
    assert problems(choice, shelf) == [
        "model_type: 'sd15.safetensors' is a checkpoint (SD1.5), but SDXL is chosen. Choose 'SD1.5' or Auto."
    ]


def test_a_checkpoint_without_an_encoder_says_what_would_fit(shelf):
    baked = dict.fromkeys(("clip_l", "clip_g"), "from checkpoint")
    choice = choose("sdxl_alone.safetensors", "SDXL", slots=baked)
    assert problems(choice, shelf) == [
        "clip_l: 'sdxl_alone.safetensors' is a diffusion model (SDXL) without a CLIP-L. "
        "On this machine would fit: 'clip_l.safetensors'.",
        "clip_g: 'sdxl_alone.safetensors' is a diffusion model (SDXL) without a CLIP-G. "
        "On this machine would fit: 'clip_g.safetensors'.",
        "vae_name: 'sdxl_alone.safetensors' is a diffusion model (SDXL) without a VAE. "
        "On this machine would fit: 'sd.safetensors'.",
    ]


def test_checkpoint_and_files_cannot_be_mixed(shelf):
    given = {"clip_l": "from checkpoint", "clip_g": "clip_g.safetensors"}
    (listed,) = problems(
        choose("sdxl_alone.safetensors", "SDXL", slots=given, wanted=frozenset({"clip"})), shelf
    )
    assert listed.startswith("clip_l: 'from checkpoint' cannot be mixed with files (clip_g)")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"vae_name": "None"}, "vae_name: the output vae is linked, and nothing is chosen."),
        (
            {"vae_name": "gone.safetensors"},
            "there is no file 'gone.safetensors' in models/vae. On this machine would fit: 'sd.safetensors'.",
        ),
        (
            {"slots": slots(clip_l="gone")},
            "'gone.safetensors' in models/text_encoders. On this machine would fit: 'clip_l.safetensors'.",
        ),
        ({"vae_name": "lora.safetensors"}, "'lora.safetensors' is a LoRA, not a VAE."),
        ({"model_name": "gone.safetensors"}, "model_name: there is no 'gone.safetensors' in"),
        ({"model_name": "lora.safetensors"}, "'lora.safetensors' is a LoRA, not a diffusion model."),
        ({"wanted": ALL | {"llm"}}, "llm: SD1.5 has no language model."),
        ({"wanted": ALL | {"clip_vision"}}, "Use ComfyUI's own loader for one, or unlink"),
        ({"wanted": ALL | {"ip_adapter"}}, "nothing is chosen. There are: 'sd15.safetensors'."),
    ],
)  # fmt: skip
def test_each_mistake_has_its_sentence(shelf, more, sentence):
    choice = choose("sd15.safetensors", "SD1.5", **{"slots": slots(clip_l="clip_l"), **more})
    assert any(sentence in listed for listed in problems(choice, shelf))


def test_a_model_in_another_folder_is_found_and_said(shelf):
    choice = Choice("unet", "sd15.safetensors", "SD1.5", wanted=frozenset({"model"}))
    plan = make_plan(choice, shelf)
    assert plan.model.folder == "checkpoints"
    assert plan.notes == ("'sd15.safetensors' was found in checkpoints, not unet.",)


@pytest.mark.parametrize("kind", ["Auto", "SD1.5"])
def test_of_a_file_that_is_no_model_nothing_else_is_asked(shelf, kind):
    given = {} if kind == "Auto" else {"clip_l": "from checkpoint"}
    wanted = ALL | ({"llm", "clip_vision"} if kind == "Auto" else set())
    assert problems(choose("lora.safetensors", kind, slots=given, wanted=wanted), shelf) == [
        "model_name: 'lora.safetensors' is a LoRA, not a diffusion model. Choose another."
    ]


def test_a_damaged_model_is_not_called_missing(shelf, models):
    (models / "checkpoints/sd15.safetensors").write_bytes(b"short")
    (listed,) = problems(choose("sd15.safetensors"), shelf)
    assert listed.startswith("model_name: 'sd15.safetensors' is damaged")


def test_without_a_vae_an_unknown_model_is_offered_all_there_are(shelf):
    choice = choose("strange.safetensors", "Other", wanted=frozenset({"vae"}), vae_name="None")
    (listed,) = problems(choice, shelf)
    assert listed.endswith("On this machine would fit: 'ae.safetensors', 'sd.safetensors'.")


def test_the_vision_type_of_the_same_family_is_named(shelf):
    choice = choose("flux.safetensors", "Flux", wanted=frozenset({"clip_vision"}))
    assert problems(choice, shelf) == [
        "clip_vision: Flux comes without an image encoder. Choose the model type 'Flux+Vision', or "
        "unlink the output."
    ]


def test_a_damaged_file_is_named(shelf, models):
    (models / "vae/sd.safetensors").write_bytes(b"short")
    choice = choose("sd15.safetensors", vae_name="sd.safetensors")
    assert any("'sd.safetensors' is damaged" in listed for listed in problems(choice, shelf))


# Vision, IP-Adapter, Z-IMAGE, Other


def test_a_type_with_vision_has_an_image_encoder(shelf):
    given = {"clip_vision": "clip_h.safetensors"}
    choice = choose(
        "sdxl.safetensors", "SDXL+Vision", slots=given, wanted=frozenset({"clip_vision"})
    )
    assert make_plan(choice, shelf).clip_vision.name == "clip_h.safetensors"


def test_a_text_encoder_is_no_image_encoder(shelf):
    given = {"clip_vision": "clip_l.safetensors"}
    choice = choose(
        "sdxl.safetensors", "SDXL+Vision", slots=given, wanted=frozenset({"clip_vision"})
    )
    assert problems(choice, shelf) == [
        "clip_vision: 'clip_l.safetensors' is a text encoder (clip_l), not an image encoder. "
        "On this machine would fit: 'clip_h.safetensors'."
    ]


def test_an_ip_adapter_is_planned(shelf):
    choice = choose(
        "sd15.safetensors", ip_adapter_name="sd15.safetensors", wanted=frozenset({"ip_adapter"})
    )
    assert make_plan(choice, shelf).ip_adapter.folder == "ipadapter"


def z_image(**more: object) -> Choice:
    given = slots(qwen3="qwen3/qwen3")
    return choose("z_image.safetensors", "Z-IMAGE", slots=given, vae_name="ae.safetensors", **more)


def test_the_encoder_of_z_image_is_its_language_model(shelf):
    plan = make_plan(z_image(wanted=frozenset({"clip", "llm"})), shelf)
    assert plan.llm == plan.clip.files[0]
    assert (plan.clip.clip_type, plan.mmproj) == ("LUMINA2", None)


def test_z_image_sees_through_the_file_beside_its_encoder(shelf, models):
    wanted = frozenset({"clip_vision"})
    assert "no file with 'mmproj' in its name" in problems(z_image(wanted=wanted), shelf)[0]
    beside = models / "text_encoders/qwen3/mmproj-f16.gguf"
    beside.touch()
    plan = make_plan(z_image(wanted=wanted), shelf)
    assert (plan.mmproj, plan.clip) == (beside, None)


def test_other_takes_any_encoders_in_any_order(shelf):
    given = {"clip_1": "t5_fp8.safetensors", "clip_2": "None", "clip_3": "clip_l.safetensors"}
    choice = choose(
        "strange.safetensors", "Other", slots=given, clip_type="HIDREAM", wanted=frozenset({"clip"})
    )
    plan = make_plan(choice, shelf)
    assert names(plan.clip.files) == ["t5_fp8.safetensors", "clip_l.safetensors"]
    assert plan.clip.clip_type == "HIDREAM"


def test_other_needs_one_encoder(shelf):
    choice = choose("strange.safetensors", "Other", slots={}, wanted=frozenset({"clip"}))
    assert problems(choice, shelf) == ["clip_1: nothing is chosen. Choose a text encoder."]


# The fingerprint


def test_the_fingerprint_changes_with_files_and_links_and_nothing_else(shelf, models):
    choice = choose("sd15.safetensors")
    before = fingerprint(choice, shelf)
    assert fingerprint(choose("sd15.safetensors"), shelf) == before
    fewer = choose("sd15.safetensors", wanted=frozenset({"model"}))
    assert fingerprint(fewer, shelf) != before
    write_header(models / "checkpoints/sd15.safetensors", {**WHOLE_SD15, "more": (1,)})
    assert fingerprint(choice, shelf) != before


def test_a_choice_that_cannot_be_has_a_fingerprint_too(shelf):
    assert "nothing is chosen" in fingerprint(choose("None", "SD1.5"), shelf)[-1]


def test_a_video_vae_is_not_taken_for_that_of_an_image_model(models, shelf):
    write_header(models / "vae/wan.safetensors", {"decoder.conv1.weight": (384, 16, 3, 3, 3)})
    vae = frozenset({"vae"})
    plan = make_plan(choose("flux.safetensors", "Auto", wanted=vae), shelf)
    assert plan.vae.file.name == "ae.safetensors"
    choice = choose("flux.safetensors", "Flux", vae_name="wan.safetensors", wanted=vae)
    assert problems(choice, shelf) == [
        "vae_name: 'wan.safetensors' is for videos; Flux makes images. On this machine would fit: "
        "'ae.safetensors'."
    ]


def test_the_t5_of_a_video_model_is_not_taken_for_that_of_flux(models, shelf):
    (models / "text_encoders/t5_fp8.safetensors").unlink()
    bias = {"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64)}
    write_header(models / "text_encoders/umt5.safetensors", {**T5, **bias})
    plan = make_plan(choose("flux.safetensors", "Auto", wanted=frozenset({"clip"})), shelf)
    assert [file.name for file in plan.clip.files] == ["clip_l.safetensors", "t5_fp16.safetensors"]


@pytest.mark.parametrize("model_type", ["Auto", "SD3"])
def test_an_sd3_checkpoint_may_come_without_t5(models, shelf, model_type):
    joint = {"joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)}
    inside = under("text_encoders.clip_l.transformer.", CLIP_L)
    inside |= under("text_encoders.clip_g.transformer.", CLIP_G)
    checkpoint = {**under("model.diffusion_model.", joint), **inside}
    write_header(models / "checkpoints/sd3.safetensors", checkpoint)
    baked = dict.fromkeys(("clip_l", "clip_g", "t5xxl"), "from checkpoint")
    choice = choose(
        "sd3.safetensors", model_type, slots={} if model_type == "Auto" else baked,
        wanted=frozenset({"clip"}),
    )  # fmt: skip
    plan = make_plan(choice, shelf)
    assert (plan.clip.checkpoint, plan.clip.files[0].name) == (True, "sd3.safetensors")
    assert plan.notes[-1] == "'sd3.safetensors' has no T5-XXL inside: SD3 does without it."


def test_without_any_text_encoder_inside_an_sd3_needs_files(models, shelf):
    joint = {"joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)}
    write_header(models / "diffusion_models/sd3.safetensors", joint)
    (models / "text_encoders/t5_fp8.safetensors").unlink()
    plan = make_plan(choose("sd3.safetensors", wanted=frozenset({"clip"})), shelf)
    assert len(plan.clip.files) == 3

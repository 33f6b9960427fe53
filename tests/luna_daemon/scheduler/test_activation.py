from __future__ import annotations

import pytest
from luna_collection.luna_daemon.protocol.work import (
    DecodeLatent,
    Echo,
    EncodeImage,
    EncodeText,
    Tiling,
)
from luna_collection.luna_daemon.protocol.worker_messages import ActivationUnits, ModelSpec
from luna_collection.luna_daemon.scheduler.activation import (
    FIRST_PICTURE_PX,
    WORK_SPACE,
    estimate,
    first_guess,
    units_of,
)

CLIP_L = {
    "text_model.embeddings.position_embedding.weight": (77, 768),
    **{f"text_model.encoder.layers.{n}.mlp.fc1.weight": (3072, 768) for n in range(12)},
    "text_model.encoder.layers.0.mlp.fc2.weight": (768, 3072),
}
SD_VAE = {
    "encoder.conv_in.weight": (128, 3, 3, 3),
    **{
        f"decoder.up_blocks.{n}.resnets.0.conv1.weight": (out, into, 3, 3)
        for n, (into, out) in enumerate([(512, 512), (512, 512), (512, 256), (256, 128)])
    },
}
VAE = ActivationUnits(decoded_pixel=10, encoded_pixel=7, cell_side_px=8)
TEXT = ActivationUnits(text=1000)


def model(activation: ActivationUnits) -> ModelSpec:
    return ModelSpec(key="k", role="r", path="p", precision="fp32", nbytes=1, activation=activation)


def test_units_of_clip_l_are_those_that_were_measured():
    assert units_of("clip_l", CLIP_L, 4).text == int(6_150_144 * WORK_SPACE)


def test_units_of_the_vae_are_those_that_were_measured():
    units = units_of("vae", SD_VAE, 4)
    assert (units.decoded_pixel, units.encoded_pixel) == (
        int(3072 * WORK_SPACE),
        int(2560 * WORK_SPACE),
    )
    assert units.cell_side_px == 8


def test_half_precision_takes_half():
    assert units_of("clip_l", CLIP_L, 2).text == int(3_075_072 * WORK_SPACE)


@pytest.mark.parametrize("role", ["vae", "clip_l"])
def test_of_a_file_with_other_names_nothing_is_known(role: str):
    assert units_of(role, {"model.weight": (4, 4)}, 4) == ActivationUnits()


@pytest.mark.parametrize(
    ("work", "shapes", "single", "expected"),
    [
        (EncodeText(texts=("a", "b")), [], True, 2 * 1000),
        (EncodeText(texts=("a",) * 20), [], True, 8 * 1000),
        (DecodeLatent(latent=0), [(3, 4, 2, 5)], True, 10 * 64 * 10),
        (DecodeLatent(latent=0), [(3, 4, 2, 5)], False, 3 * 10 * 64 * 10),
        (EncodeImage(image=1), [(1,), (2, 30, 40, 3)], False, 2 * 1200 * 7),
        (EncodeImage(image=0), [(2, 30, 40, 3)], True, 1200 * 7),
        (
            DecodeLatent(latent=0, tiling=Tiling(tile=64)),
            [(3, 4, 99, 99)],
            False,
            64 * 64 * 10,
        ),
        (DecodeLatent(latent=0, tiling=Tiling(tile=64)), [(1, 4, 1, 1)], False, 64 * 10),
        (DecodeLatent(latent=0), [(4, 2, 5)], True, 0),
        (DecodeLatent(latent=3), [(3, 4, 2, 5)], True, 0),
        (Echo(tensor=0), [(3, 4, 2, 5)], True, 0),
    ],
    ids=[
        "texts",
        "more texts than go at once",
        "latents one by one",
        "latents together",
        "images together",
        "images one by one",
        "tiles",
        "smaller than a tile",
        "no latent",
        "no such tensor",
        "an echo",
    ],
)
def test_a_request_takes_what_its_largest_step_takes(work, shapes, single, expected):
    models = [model(TEXT if isinstance(work, EncodeText) else VAE)]
    assert estimate(work, models, shapes, single=single) == expected


def test_the_encoders_of_one_model_set_add_up():
    assert estimate(EncodeText(texts=("a",)), [model(TEXT)] * 2, [], single=True) == 2000


def test_a_request_without_models_takes_nothing():
    assert estimate(DecodeLatent(latent=0), [], [(1, 4, 8, 8)], single=True) == 0


@pytest.mark.parametrize(("units", "expected"), [(TEXT, 1000), (VAE, 10 * FIRST_PICTURE_PX)])
def test_before_any_request_room_for_one_text_or_picture_is_kept(units, expected):
    assert first_guess(model(units)) == expected

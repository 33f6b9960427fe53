"""Images and latents against AutoencoderKL, called directly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from luna_collection.luna_daemon.engines.engine import Resident
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.work import DecodeLatent

Run = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def reference(sd15: Path) -> AutoencoderKL:
    return read_reference(sd15)


def read_reference(folder: Path, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, low_cpu_mem_usage=False)
    # diffusers uses the weights where they lie in the file, and what the attention over a single
    # latent cell rounds to depends on their address; a copy lies where allocators put it.
    return copy.deepcopy(vae).eval()


@torch.no_grad()
def decode_directly(vae: AutoencoderKL, latent: torch.Tensor) -> torch.Tensor:
    image = vae.decode(latent.to(vae.dtype)).sample.float()
    return (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


@torch.no_grad()
def encode_directly(vae: AutoencoderKL, image: torch.Tensor) -> torch.Tensor:
    pixels = (image.permute(0, 3, 1, 2) * 2 - 1).to(vae.dtype)
    return vae.encode(pixels).latent_dist.mode().float()


def assert_plain(tensor: torch.Tensor) -> None:
    assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
    assert not tensor.is_inference()
    assert not tensor.requires_grad


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 12), (32, 24)])
def test_decoding_equals_the_model(
    decode: Run, reference: AutoencoderKL, size: tuple[int, int]
) -> None:
    latent = torch.randn(1, 4, *size)
    image, expected = decode(latent), decode_directly(reference, latent)
    assert image.shape == (1, 8 * size[0], 8 * size[1], 3)
    assert torch.equal(image, expected)
    assert image.stride() == expected.stride()
    assert_plain(image)


@pytest.mark.parametrize("size", [(8, 8), (40, 96), (128, 64)])
def test_encoding_equals_the_model(
    encode: Run, reference: AutoencoderKL, size: tuple[int, int]
) -> None:
    image = torch.rand(1, *size, 3)
    latent, expected = encode(image), encode_directly(reference, image)
    assert latent.shape == (1, 4, size[0] // 8, size[1] // 8)
    assert torch.equal(latent, expected)
    assert latent.stride() == expected.stride()
    assert_plain(latent)


def test_a_chain_keeps_the_memory_layout(
    decode: Run, encode: Run, reference: AutoencoderKL
) -> None:
    """What a decoded image is in memory decides how it is rounded when it is encoded again."""
    latent = torch.randn(1, 4, 8, 8)
    expected = encode_directly(reference, decode_directly(reference, latent))
    assert torch.equal(encode(decode(latent)), expected)


def test_a_latent_in_another_memory_layout_is_taken_as_it_is(
    decode: Run, reference: AutoencoderKL
) -> None:
    latent = torch.randn(1, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    image, expected = decode(latent), decode_directly(reference, latent)
    assert torch.equal(image, expected)
    assert image.stride() == expected.stride()


def test_an_item_does_not_depend_on_its_batch(
    decode: Run, encode: Run, reference: AutoencoderKL
) -> None:
    latents, images = torch.randn(3, 4, 6, 9), torch.rand(3, 48, 40, 3)
    decoded, encoded = decode(latents), encode(images)
    for i in range(3):
        assert torch.equal(decoded[i : i + 1], decode_directly(reference, latents[i : i + 1]))
        assert torch.equal(encoded[i : i + 1], encode_directly(reference, images[i : i + 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_taken(
    decode: Run, encode: Run, reference: AutoencoderKL, dtype: torch.dtype
) -> None:
    latent, image = torch.randn(1, 4, 4, 4).to(dtype), torch.rand(1, 16, 16, 3).to(dtype)
    assert torch.equal(decode(latent), decode_directly(reference, latent))
    assert torch.equal(encode(image), encode_directly(reference, image.float()))


def test_half_precision_equals_the_model(
    engine: HfEngine, load: Any, sd15: Path, recorder: Any
) -> None:
    models = {"vae": load(sd15 / "vae", "vae", "bf16")}
    reference = read_reference(sd15, torch.bfloat16)
    latent = torch.randn(1, 4, 8, 8)
    outcome = engine.run(DecodeLatent(latent=0), "SDXL", models, (latent,), recorder())
    assert torch.equal(outcome.tensors[0], decode_directly(reference, latent))
    assert_plain(outcome.tensors[0])


def test_inputs_are_not_changed(decode: Run, encode: Run) -> None:
    latent, image = torch.randn(1, 4, 8, 8), torch.rand(1, 64, 64, 3)
    before = latent.clone(), image.clone()
    decode(latent)
    encode(image)
    encode(image, tile=64, overlap=0)
    assert torch.equal(latent, before[0])
    assert torch.equal(image, before[1])


def test_values_that_are_no_numbers_pass_through(decode: Run) -> None:
    assert decode(torch.full((1, 4, 2, 2), float("nan"))).isnan().all()


def test_one_tile_equals_the_whole(decode: Run, encode: Run, reference: AutoencoderKL) -> None:
    latent, image = torch.randn(2, 4, 8, 7), torch.rand(2, 64, 56, 3)
    assert torch.equal(decode(latent, tile=64, overlap=16), decode(latent))
    assert torch.equal(encode(image, tile=64, overlap=16), encode(image))


def test_tiles_come_close_to_the_whole(decode: Run, encode: Run) -> None:
    """Not equal: a tile's norms and attention see less of the picture than the whole's."""
    torch.manual_seed(0)
    image = torch.rand(1, 192, 256, 3)
    latent = encode(image)
    for whole, tiled in (
        (latent, encode(image, tile=128, overlap=64)),
        (decode(latent) - 0.5, decode(latent, tile=128, overlap=64) - 0.5),
    ):
        assert tiled.shape == whole.shape
        assert not torch.equal(tiled, whole)
        assert float(torch.cosine_similarity(tiled.flatten(), whole.flatten(), 0)) > 0.98
        assert_plain(tiled)


def test_progress_is_told_per_item_and_per_tile(decode: Run, recorder: Any) -> None:
    control = recorder()
    decode(torch.randn(2, 4, 4, 4), control)
    assert control.steps == [(1, 2), (2, 2)]
    control = recorder()
    decode(torch.randn(2, 4, 8, 16), control, tile=64, overlap=0)
    assert control.steps == [(0, 4), (1, 4), (2, 4), (2, 4), (3, 4), (4, 4)]
    assert control.notes == []


def test_sides_that_are_no_multiple_are_cropped_at_the_centre(
    encode: Run, reference: AutoencoderKL, recorder: Any
) -> None:
    image, control = torch.rand(1, 45, 66, 3), recorder()
    latent = encode(image, control)
    assert torch.equal(latent, encode_directly(reference, image[:, 2:42, 1:65]))
    assert control.notes == [
        "The image of 66 x 45 pixels was cropped at the centre to 64 x 40, because the VAE works in "
        "blocks of 8 pixels."
    ]


def test_alpha_is_left_out(encode: Run, reference: AutoencoderKL, recorder: Any) -> None:
    image, control = torch.rand(1, 32, 32, 4), recorder()
    assert torch.equal(encode(image, control), encode_directly(reference, image[..., :3]))
    assert control.notes == ["The image's alpha channel was left out: the VAE has no use for it."]


@pytest.mark.parametrize(
    "latent",
    [
        torch.zeros(1, 16, 8, 8),
        torch.zeros(4, 8, 8),
        torch.zeros(1, 4, 1, 8, 8),
        torch.zeros(0, 4, 8, 8),
        torch.zeros(1, 4, 0, 8),
        torch.zeros(1, 4, 8, 8, dtype=torch.int64),
    ],
    ids=lambda latent: f"{list(latent.shape)} {latent.dtype}",
)
def test_latents_of_another_kind_are_refused(decode: Run, latent: torch.Tensor) -> None:
    with pytest.raises(BadRequestError, match=r"\[batch, 4, height, width\]"):
        decode(latent)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(64, 64, 3),
        torch.zeros(1, 3, 64, 64),
        torch.zeros(1, 64, 64, 1),
        torch.zeros(0, 64, 64, 3),
        torch.zeros(1, 64, 64, 3, dtype=torch.uint8),
    ],
    ids=lambda image: f"{list(image.shape)} {image.dtype}",
)
def test_images_of_another_kind_are_refused(encode: Run, image: torch.Tensor) -> None:
    with pytest.raises(BadRequestError, match=r"\[batch, height, width, 3\]"):
        encode(image)


def test_an_image_smaller_than_a_cell_is_refused(encode: Run) -> None:
    with pytest.raises(BadRequestError, match="has 64 x 7 pixels, but this VAE needs at least 8"):
        encode(torch.zeros(1, 7, 64, 3))


def test_an_overlap_as_large_as_the_tile_is_refused(decode: Run) -> None:
    with pytest.raises(BadRequestError, match="Tiles of 64 pixels cannot overlap by 64"):
        decode(torch.zeros(1, 4, 8, 8), tile=64, overlap=64)


def test_odd_tile_sizes_are_rounded_down_to_cells(decode: Run) -> None:
    latent = torch.randn(1, 4, 9, 20)
    assert torch.equal(decode(latent, tile=71, overlap=70), decode(latent, tile=64, overlap=63))


def test_the_vae_of_one_family_serves_the_other(
    engine: HfEngine, vae: Resident, recorder: Any
) -> None:
    latent, work = torch.randn(1, 4, 4, 4), DecodeLatent(latent=0)
    results = [
        engine.run(work, kind, {"vae": vae}, (latent,), recorder()).tensors[0]
        for kind in ("SD1.5", "SDXL")
    ]
    assert torch.equal(*results)

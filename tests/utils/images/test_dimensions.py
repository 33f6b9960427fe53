from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.images.dimensions import (
    MODEL_TYPES,
    ScaleMode,
    Size,
    TrainedSize,
    buckets,
    scale,
    trained_size,
)

sides = st.integers(64, 8192)
sizes = st.builds(Size, sides, sides)
kinds = st.sampled_from(MODEL_TYPES).map(lambda name: trained_size(name, 768))
multiples = st.sampled_from([1, 8, 16, 32, 64])


@given(sizes, kinds, multiples)
def test_fitting_makes_smaller_only_and_keeps_the_shape(size, trained, multiple):
    fitted = scale(size, trained, ScaleMode.FIT, multiple)
    assert fitted.width % multiple == fitted.height % multiple == 0
    assert max(fitted) <= max(trained.side, multiple) + multiple / 2
    assert max(fitted) <= max(size) + multiple / 2
    factor = min(1.0, trained.side / max(size))
    for side, old in zip(fitted, size, strict=True):
        assert abs(side - old * factor) <= multiple / 2 or side == multiple


@given(sizes, kinds, multiples)
def test_keeping_the_area_keeps_area_and_shape_up_to_rounding(size, trained, multiple):
    scaled = scale(size, trained, ScaleMode.AREA, multiple)
    factor = trained.side / math.sqrt(size.width * size.height)
    for side, old in zip(scaled, size, strict=True):
        assert side % multiple == 0
        assert abs(side - old * factor) <= multiple / 2 or side == multiple


@given(sizes, kinds)
def test_a_bucket_is_the_one_of_the_nearest_shape(size, trained):
    chosen = scale(size, trained, ScaleMode.BUCKET, 8)
    assert chosen in buckets(trained)

    def distance(choice):
        return abs(math.log(choice.width / choice.height) - math.log(size.width / size.height))

    assert distance(chosen) <= min(map(distance, buckets(trained))) + 1e-8


@given(sizes, kinds, st.sampled_from(list(ScaleMode)), multiples)
def test_an_upright_size_is_the_lying_one_turned(size, trained, mode, multiple):
    turned = scale(Size(size.height, size.width), trained, mode, multiple)
    scaled = scale(size, trained, mode, multiple)
    if mode is ScaleMode.BUCKET and size.width == size.height:
        return  # where no square is in the list, lying and upright are equally near
    assert (turned.height, turned.width) == scaled


@pytest.mark.parametrize(
    ("size", "kind", "mode", "result"),
    [
        ((1920, 1080), "SDXL", ScaleMode.FIT, (1024, 576)),
        ((512, 512), "SDXL", ScaleMode.FIT, (512, 512)),
        ((1920, 1080), "SDXL", ScaleMode.AREA, (1368, 768)),
        ((512, 512), "Flux", ScaleMode.AREA, (1024, 1024)),
        ((1920, 1080), "SDXL", ScaleMode.BUCKET, (1344, 768)),
        ((1080, 1920), "Pony", ScaleMode.BUCKET, (768, 1344)),
        ((1000, 1000), "SDXL", ScaleMode.BUCKET, (1024, 1024)),
        ((1920, 1080), "Qwen-Image", ScaleMode.BUCKET, (1664, 928)),
        ((1080, 1920), "Wan", ScaleMode.BUCKET, (720, 1280)),
        ((640, 360), "Wan", ScaleMode.BUCKET, (1280, 720)),
        ((768, 512), "SD 1.5", ScaleMode.BUCKET, (640, 384)),
    ],
)
def test_known_sizes(size, kind, mode, result):
    assert scale(Size(*size), trained_size(kind, 1024), mode, 8) == result


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_list_of_buckets_is_usable(kind):
    trained = trained_size(kind, 1024)
    found = buckets(trained)
    assert len(found) == len(set(found)) >= 4
    assert all(Size(height, width) in found for width, height in found)
    assert all(width * height <= trained.side**2 * 1.06 for width, height in found)
    assert all(side % 8 == 0 for size in found for side in size)


def test_a_small_side_of_ones_own_still_has_buckets():
    assert buckets(TrainedSize(256))
    assert buckets(TrainedSize(32)) == (Size(32, 32), Size(64, 16))[:1]


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="SD 9"):
        trained_size("SD 9", 512)
    with pytest.raises(InputError, match="at least 1"):
        scale(Size(0, 10), TrainedSize(512), ScaleMode.FIT, 8)

"""Weights that several processes share: the same bits as copied ones, and nobody can change them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.engine import EngineSettings, SilentControl
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import BadRequestError, InternalError
from luna_collection.luna_daemon.protocol.work import DecodeLatent, EncodeText
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec

if sys.platform != "linux":
    pytest.skip("only Linux has memfd", allow_module_level=True)

from luna_collection.luna_daemon.engines.weight_image import (
    ALIGNMENT,
    is_sealed,
    shared_weights,
)

SHAPES = {"a": torch.Size([3]), "none": torch.Size([0, 4]), "b": torch.Size([5, 2])}


@pytest.fixture
def image() -> Iterator[int]:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    yield fd
    os.close(fd)


def fill_with(value: float) -> Callable[[Mapping[str, torch.Tensor]], None]:
    def fill(targets: Mapping[str, torch.Tensor]) -> None:
        for target in targets.values():
            target.fill_(value)

    return fill


def refuse(targets: Mapping[str, torch.Tensor]) -> None:
    raise AssertionError("a sealed image is not written again")


def test_the_first_writes_and_the_next_only_maps(image: int) -> None:
    assert not is_sealed(image)
    first = shared_weights(image, SHAPES, torch.float32, fill_with(2))
    assert is_sealed(image)
    second = shared_weights(image, SHAPES, torch.float32, refuse)
    assert {name: list(w.shape) for name, w in second.items()} == {
        "a": [3],
        "none": [0, 4],
        "b": [5, 2],
    }
    assert all(torch.equal(first[name], second[name]) for name in SHAPES)
    assert torch.equal(second["b"], torch.full((5, 2), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_weight_lies_where_torch_would_place_it(image: int, dtype: torch.dtype) -> None:
    weights = shared_weights(image, SHAPES, dtype, fill_with(1))
    assert all(weights[name].data_ptr() % ALIGNMENT == 0 for name in ("a", "b"))
    assert weights["a"].dtype == dtype


def test_writing_into_a_weight_changes_no_other_process(image: int) -> None:
    first = shared_weights(image, SHAPES, torch.float32, fill_with(2))
    second = shared_weights(image, SHAPES, torch.float32, refuse)
    first["a"].zero_()
    assert torch.equal(second["a"], torch.full((3,), 2.0))


def test_a_sealed_image_can_be_neither_written_nor_cut(image: int) -> None:
    shared_weights(image, SHAPES, torch.float32, fill_with(2))
    with pytest.raises(PermissionError):
        os.pwrite(image, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(image, 0)


def test_an_image_that_could_not_be_filled_stays_open_for_another_try(image: int) -> None:
    def fail(targets: Mapping[str, torch.Tensor]) -> None:
        targets["a"].fill_(7)
        raise BadRequestError("The file is damaged.")

    with pytest.raises(BadRequestError):
        shared_weights(image, SHAPES, torch.float32, fail)
    assert not is_sealed(image)
    weights = shared_weights(image, SHAPES, torch.float32, fill_with(1))
    assert torch.equal(weights["a"], torch.ones(3))


def test_an_image_of_other_weights_is_refused(image: int) -> None:
    shared_weights(image, SHAPES, torch.float32, fill_with(2))
    other = {**SHAPES, "more": torch.Size([99])}
    with pytest.raises(InternalError, match="not of this model's size"):
        shared_weights(image, other, torch.float32, refuse)


ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}


def load_all(sdxl: Path, precision: str, images: Mapping[str, int]) -> tuple[HfEngine, dict]:
    engine = HfEngine(EngineSettings(device="cpu"))
    residents = {}
    for role, folder in {**ENCODERS, "vae": "vae"}.items():
        spec = ModelSpec(
            key=role, role=role, path=str(sdxl / folder), precision=precision, nbytes=0
        )
        residents[role] = engine.load(spec, images.get(role))
    return engine, residents


def results(engine: HfEngine, residents: dict[str, Any]) -> list[torch.Tensor]:
    latent = torch.randn(1, 4, 9, 7, generator=torch.Generator().manual_seed(3))
    one_cell = latent[..., :1, :1]
    found: list[torch.Tensor] = []
    for work, tensors in (
        (EncodeText(texts=("a red fox", "rain")), ()),
        (DecodeLatent(latent=0), (latent,)),
        (DecodeLatent(latent=0), (one_cell,)),
    ):
        found += engine.run(work, "SDXL", residents, tensors, SilentControl()).tensors
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "file"])
def test_shared_weights_give_the_same_bits_as_copied_ones(sdxl: Path, precision: str) -> None:
    expected = results(*load_all(sdxl, precision, {}))
    images = {role: os.memfd_create(role, os.MFD_ALLOW_SEALING) for role in (*ENCODERS, "vae")}
    for _ in ("who writes", "who maps"):
        engine, residents = load_all(sdxl, precision, images)
        found = results(engine, residents)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for fd in images.values():
        os.close(fd)


def test_unloading_gives_the_mapping_back(sdxl: Path, image: int) -> None:
    engine, residents = load_all(sdxl, "fp32", {"vae": image})
    inode = f" {os.fstat(image).st_ino} "

    def mapped() -> bool:
        return inode in Path("/proc/self/maps").read_text()

    assert mapped()
    for resident in residents.values():
        engine.unload(resident)
    assert not mapped()

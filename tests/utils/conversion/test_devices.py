"""Conversions whose arithmetic is done elsewhere: the same bytes, and what is said when that does not go.

There need not be a graphics card: a device that cannot compute stands for one, and what it would give is put in.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.utils.conversion import converting, devices, streaming
from luna_collection.utils.conversion.converting import Converted, converted_once
from luna_collection.utils.conversion.devices import find_device
from luna_collection.utils.conversion.streaming import Run
from luna_collection.utils.conversion.targets import TARGETS
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization.microscaling import FORMATS

from .model_files import FLUX, flux, save, sdxl_checkpoint, weights

ELSEWHERE = torch.device("meta")
CARD = Run(device="cuda:0")
has_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name stand for a device on which nothing can be computed."""
    for module in (converting, streaming):
        monkeypatch.setattr(module, "find_device", lambda name: ELSEWHERE)


class Card:
    """Stands for a card: computes on the CPU, and counts for whom."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elements = 0
        monkeypatch.setattr(devices, "encode_on", self)

    def __call__(self, device, encoding, values, scale, scratch) -> torch.Tensor:
        assert device == ELSEWHERE
        self.elements += len(values)
        return self.answer(encoding.encode(values, scale, devices.Scratch()).clone())

    def answer(self, data: torch.Tensor) -> torch.Tensor:
        return data


def both(source: Path, target: str, folder: Path) -> tuple[Converted, Converted]:
    here = converted_once(source, target, folder / "here")
    there = converted_once(source, target, folder / "there", CARD)
    assert there.path.read_bytes() == here.path.read_bytes()
    assert there.sidecar.layers == here.sidecar.layers
    return here, there


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("target", ["fp8_e4m3fn", "fp8_e4m3fn_scaled", "gguf_Q8_0", "gguf_Q4_K_M"])
def test_large_layers_are_worked_out_on_the_device(tmp_path, monkeypatch, target):
    card = Card(monkeypatch)

    _, there = both(flux(tmp_path), target, tmp_path)

    large = [n for n in FLUX if n.startswith(("double", "single")) and len(FLUX[n]) > 1]
    assert card.elements >= sum(torch.Size(FLUX[name]).numel() for name in large)
    assert there.notes == ()


@pytest.mark.usefixtures("elsewhere")
def test_a_device_that_cannot_compute_is_said_once_for_each_way(tmp_path):
    tensors = weights(FLUX)
    name = "double_blocks.0.img_mlp.0.weight"
    source = save(tmp_path / "a.safetensors", {**tensors, name: tensors[name].float()})

    _, there = both(source, "gguf_Q4_K_M", tmp_path)

    said = [note.split(" was")[0] for note in there.notes]
    assert sorted(set(said)) == sorted(said)
    assert set(said) >= {"Q4_K", "Q6_K"}
    assert all("worked out on the CPU, not on meta (" in note for note in there.notes)


@pytest.mark.usefixtures("elsewhere")
def test_a_device_that_rounds_otherwise_is_not_used(tmp_path, monkeypatch):
    card = Card(monkeypatch)
    monkeypatch.setattr(card, "answer", lambda data: data ^ 1)

    _, there = both(flux(tmp_path), "gguf_Q8_0", tmp_path)

    assert any("it rounds otherwise than the CPU" in note for note in there.notes)


@pytest.mark.usefixtures("elsewhere")
def test_a_tensor_that_finds_no_memory_there_is_worked_out_here(tmp_path, monkeypatch):
    card = Card(monkeypatch)

    def full(data: torch.Tensor) -> torch.Tensor:
        if len(data) == 1792 * 256:  # one layer
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return data

    monkeypatch.setattr(card, "answer", full)

    _, there = both(flux(tmp_path), "fp8_e4m3fn", tmp_path)

    (note,) = there.notes
    assert note.startswith("'single_blocks.0.linear1.weight' was worked out on the CPU")
    assert card.elements > 1792 * 256


@pytest.mark.usefixtures("elsewhere")
def test_when_no_tensor_finds_memory_it_is_said_once(tmp_path, monkeypatch):
    card, sample = Card(monkeypatch), devices._SAMPLE

    def full(data: torch.Tensor) -> torch.Tensor:
        if len(data) != sample:
            raise RuntimeError("CUDA error: out of memory")
        return data

    monkeypatch.setattr(card, "answer", full)

    _, there = both(flux(tmp_path), "fp8_e4m3fn", tmp_path)

    assert len(there.notes) == 1


@pytest.mark.usefixtures("elsewhere")
def test_other_errors_of_a_device_end_the_conversion(tmp_path, monkeypatch):
    card, sample = Card(monkeypatch), devices._SAMPLE

    def broken(data: torch.Tensor) -> torch.Tensor:
        if len(data) != sample:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return data

    monkeypatch.setattr(card, "answer", broken)

    with pytest.raises(RuntimeError, match="illegal memory access"):
        converted_once(flux(tmp_path), "fp8_e4m3fn", tmp_path / "unet", CARD)


@pytest.mark.parametrize(
    ("cards", "name", "found"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, " CUDA ", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "CPU", "cpu"),
    ],
)
def test_devices_by_name(monkeypatch, cards, name, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert find_device(name) == torch.device(found)


@pytest.mark.parametrize(
    ("cards", "name", "words"),
    [
        (0, "cuda", "no device 'cuda': PyTorch .* finds no graphics card"),
        (1, "cuda:1", "no device 'cuda:1', only cuda:0"),
        (1, "gpu", "There is no device 'gpu'"),
        (1, "cuda:x", "There is no device 'cuda:x'"),
        (1, "", "There is no device ''"),
    ],
)
def test_devices_that_are_not_there(tmp_path, monkeypatch, cards, name, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    with pytest.raises(InputError, match=words):
        converted_once(flux(tmp_path), "fp8_e4m3fn", tmp_path / "unet", Run(device=name))
    assert not (tmp_path / "unet").exists()


@has_card
@pytest.mark.parametrize("target", [name for name in TARGETS if name not in FORMATS])
def test_a_real_card_gives_the_bytes_of_the_cpu(tmp_path, target):
    for source in (
        sdxl_checkpoint(tmp_path),
        save(tmp_path / "f.safetensors", weights(FLUX, torch.float32)),
    ):
        both(source, target, tmp_path / source.stem)

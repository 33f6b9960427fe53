"""LoRAs on clones: exactly what a chain of ComfyUI's own loaders gives, without reading a file twice."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import pytest
import torch

from ..proxy.comparing import assert_differ, assert_same, encode
from ..router_models import write
from .conftest import (
    FAMILIES,
    assert_weights,
    patched_weights,
    random_lora,
    stock_chain,
    weights_in_memory,
)

Entries = list[tuple[str, float, float]]


@pytest.fixture(autouse=True)
def fresh_library(lora_folder: Any) -> None:
    from luna_collection.nodes.lora.library import cache

    cache.cache_clear()


def put_on(model: Any, clip: Any, entries: Entries) -> Any:
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.stack import LoraEntry

    return with_loras(model, clip, [LoraEntry(*entry) for entry in entries])


def random_strengths(names: list[str], seed: int) -> Entries:
    numbers = random.Random(seed)
    return [(name, numbers.uniform(-1.5, 1.5), numbers.uniform(-1.5, 1.5)) for name in names]


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_is_what_a_chain_of_stock_loaders_is(stock, loras, family, count):
    of = stock(family)
    entries = random_strengths(loras(family, count), count)
    wanted = stock_chain(of.model, of.clip, entries)
    made = put_on(of.model, of.clip, entries)
    plain = patched_weights(of.model)
    weights = patched_weights(made.model)
    assert_weights(weights, patched_weights(wanted[0]))
    assert any(not torch.equal(weights[key], plain[key]) for key in plain)
    assert_same(encode(made.clip), encode(wanted[1]))
    assert_differ(encode(made.clip), encode(of.clip))
    assert [report.unused for report in made.reports] == [0] * count


@pytest.mark.parametrize(("family", "counts"), [("sd15", [1, 3, 7]), ("sdxl", [7])])
def test_the_same_in_the_daemon(stock, loras, models, family, counts):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of = stock(family)
    clip = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    for count in counts:
        entries = random_strengths(loras(family, count), 50 + count)
        made = put_on(of.model, clip, entries)
        wanted = stock_chain(of.model, of.clip, entries)
        assert_same(encode(made.clip), encode(wanted[1]))
    assert_same(encode(clip), encode(of.clip))


def test_fifty_runs_and_the_base_is_as_it_was(stock, loras):
    from luna_collection.nodes.lora.reset import reset

    of = stock("sd15")
    before, patches = patched_weights(of.model), dict(of.model.patches)
    names = loras("sd15", 3)
    for seed in range(50):
        made = put_on(of.model, of.clip, random_strengths(names, seed))
        patched = patched_weights(made.model)
        assert any(not torch.equal(patched[key], before[key]) for key in before)
    base, report = reset(made.model, now=True)
    assert base is of.model
    assert "weights in memory are those of the base model again" in report
    assert_weights(weights_in_memory(of.model), before)
    assert_weights(patched_weights(base), before)
    assert base.patches == patches


def test_reset_takes_stock_loras_off_too(stock, loras):
    from luna_collection.nodes.lora.reset import reset

    of = stock("sd15")
    before = patched_weights(of.model)
    model, _ = stock_chain(of.model, of.clip, [(loras("sd15", 1)[0], 1.0, 1.0)])
    patched_weights(model)
    base, report = reset(model, now=False)
    assert (base.patches, base is model) == ({}, False)
    assert "not this pack's" in report
    assert_weights(patched_weights(base), before)
    same, report = reset(of.model, now=True)
    assert same is of.model
    assert report.startswith("There were no LoRAs")


def test_new_strengths_read_nothing(stock, loras, lora_folder, monkeypatch):
    import comfy.lora
    import comfy.utils
    from luna_collection.nodes.lora.library import cache

    of = stock("sd15")
    names = loras("sd15", 7)
    put_on(of.model, of.clip, random_strengths(names, 0))
    assert cache().reads == 7
    opened: list[str] = []
    active = [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if active and event == "open" and str(lora_folder) in str(args[0]):
            opened.append(str(args[0]))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was read or a LoRA was mapped again")

    sys.addaudithook(watch)
    monkeypatch.setattr(comfy.utils, "load_torch_file", refuse)
    monkeypatch.setattr(comfy.lora, "load_lora", refuse)
    for seed in range(1, 6):
        made = put_on(of.model, of.clip, random_strengths(names, seed))
        patched_weights(made.model)
        encode(made.clip)
    active.clear()
    assert opened == []
    assert cache().reads == 7


def test_weights_do_not_depend_on_the_file_after_reading(stock, loras, lora_folder):
    of = stock("sd15")
    name = "sd15/gone.safetensors"
    path = lora_folder / write(lora_folder, name, random_lora(of, "sd15", 77)).name
    path = lora_folder / name
    entries = [(name, 0.8, 0.6)]
    wanted = patched_weights(stock_chain(of.model, of.clip, entries)[0])
    put_on(of.model, of.clip, entries)
    state = path.stat()
    path.write_bytes(b"\0" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert_weights(patched_weights(put_on(of.model, of.clip, entries).model), wanted)
    path.unlink()


def test_a_file_that_is_replaced_is_noticed(stock, lora_folder):
    of = stock("sd15")
    name = "sd15/replaced.safetensors"
    entries = [(name, 0.8, 0.6)]
    seen = []
    for seed in (80, 81):
        path = write(lora_folder, name, random_lora(of, "sd15", seed))
        os.utime(path, ns=(seed * 10**9, seed * 10**9))
        made = patched_weights(put_on(of.model, of.clip, entries).model)
        assert_weights(made, patched_weights(stock_chain(of.model, of.clip, entries)[0]))
        seen.append(made)
    assert any(not torch.equal(seen[0][key], seen[1][key]) for key in seen[0])


def test_the_same_set_again_is_not_patched_again(stock, loras, monkeypatch):
    of = stock("sd15")
    entries = random_strengths(loras("sd15", 2), 9)
    first = put_on(of.model, of.clip, entries)
    wanted = patched_weights(first.model)
    again = put_on(of.model, of.clip, entries)
    assert again.model is not first.model
    assert again.model.patches_uuid == first.model.patches_uuid
    monkeypatch.setattr(
        type(again.model), "patch_weight_to_device", lambda *_, **__: pytest.fail("patched again")
    )
    assert_weights(patched_weights(again.model), wanted)
    monkeypatch.undo()
    other = put_on(of.model, of.clip, [(name, m + 0.1, c) for name, m, c in entries])
    assert other.model.patches_uuid != first.model.patches_uuid


@pytest.mark.parametrize(("lora", "model"), [("sdxl", "sd15"), ("sd15", "sdxl")])
def test_a_lora_of_another_base_is_refused(stock, loras, lora, model):
    from luna_collection.utils.errors import InputError

    of = stock(model)
    name = loras(lora, 1)[0]
    base = {"sd15": "SD1.5", "sdxl": "SDXL"}
    with pytest.raises(InputError, match="made for another model") as refused:
        put_on(of.model, of.clip, [(name, 1.0, 1.0)])
    assert name in str(refused.value)
    assert base[lora] in str(refused.value)
    assert type(of.model.model.model_config).__name__ in str(refused.value)


def test_a_damaged_or_missing_file_is_said(stock, lora_folder):
    from luna_collection.utils.errors import InputError, ModelFileError

    of = stock("sd15")
    path = lora_folder / "sd15" / "cut.safetensors"
    write(lora_folder, "sd15/cut.safetensors", random_lora(of, "sd15", 5))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r"cut\.safetensors"):
        put_on(of.model, of.clip, [("cut", 1.0, 1.0)])
    path.unlink()
    broken = lora_folder / "sd15" / "broken.pt"
    broken.write_bytes(b"this is no pickle")
    with pytest.raises(ModelFileError, match=r"broken\.pt"):
        put_on(of.model, of.clip, [("broken", 1.0, 1.0)])
    broken.unlink()
    with pytest.raises(InputError, match="no LoRA 'nowhere'"):
        put_on(of.model, of.clip, [("nowhere", 1.0, 1.0)])


def test_keys_without_a_place_are_counted(stock, lora_folder):
    of = stock("sd15")
    weights = random_lora(of, "sd15", 6)
    weights["lora_unet_no_such_layer.lora_up.weight"] = torch.zeros(4, 4)
    weights["lora_unet_no_such_layer.lora_down.weight"] = torch.zeros(4, 4)
    write(lora_folder, "sd15/odd.safetensors", weights)
    (report,) = put_on(of.model, of.clip, [("sd15/odd", 1.0, 1.0)]).reports
    assert (report.used, report.unused) == (len(weights) - 2, 2)
    assert "2 without a place" in str(report)


def test_no_strength_is_no_lora(stock, loras):
    of = stock("sd15")
    made = put_on(of.model, of.clip, [(loras("sd15", 1)[0], 0.0, 0.0)])
    assert made.model is of.model
    assert made.clip is of.clip
    assert made.reports == ()


def test_either_side_may_be_missing(stock, loras):
    of = stock("sd15")
    entries = random_strengths(loras("sd15", 1), 3)
    wanted = stock_chain(of.model, of.clip, entries)
    assert put_on(None, of.clip, entries).model is None
    assert_same(encode(put_on(None, of.clip, entries).clip), encode(wanted[1]))
    made = put_on(of.model, None, entries)
    assert made.clip is None
    assert_weights(patched_weights(made.model), patched_weights(wanted[0]))


def test_block_weights_scale_each_block(stock, loras):
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.block_weights import block_of
    from luna_collection.utils.loras.stack import LoraEntry

    of = stock("sd15")
    name = loras("sd15", 1)[0]
    plain = put_on(of.model, of.clip, [(name, 0.8, 0.5)])
    blocks = {block_of(key) for key in plain.model.patches}
    assert len(blocks) > 1
    chosen = sorted(blocks)[0]
    entry = LoraEntry(name, 0.8, 0.5, f"{chosen}:0.25,BASE:0")
    made = with_loras(of.model, of.clip, [entry])
    for key, (patch,) in made.model.patches.items():
        assert patch[0] == pytest.approx(0.8 * (0.25 if block_of(key) == chosen else 1.0))
    assert made.clip is of.clip
    everywhere = with_loras(of.model, of.clip, [LoraEntry(name, 0.8, 0.5, "ALL")])
    assert_weights(patched_weights(everywhere.model), patched_weights(plain.model))


def test_fast_loras_are_close_and_a_set_of_their_own(stock, loras, models):
    from luna_collection.luna_daemon.proxy.opening import open_clip
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.stack import LoraEntry

    of = stock("sd15")
    entries = [LoraEntry(*entry) for entry in random_strengths(loras("sd15", 7), 4)]
    clip = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    exact, fast = (with_loras(of.model, clip, entries, fast=fast) for fast in (False, True))
    assert exact.model.patches_uuid != fast.model.patches_uuid
    weights, rounded = patched_weights(exact.model), patched_weights(fast.model)
    assert any(not torch.equal(weights[key], rounded[key]) for key in weights)
    for key, weight in weights.items():
        assert torch.allclose(weight.float(), rounded[key].float(), rtol=1e-3, atol=1e-6), key
    one, other = encode(exact.clip)[0][0], encode(fast.clip)[0][0]
    assert torch.allclose(one, other, atol=0.05 * float(one.abs().max()))


def test_two_workflows_with_other_sets_take_turns_in_the_daemon(
    stock, loras, calls: Any, model_files
):
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of = stock("sd15")
    names = loras("sd15", 4)
    sets = [random_strengths(names[:2], 1), random_strengths(names[2:], 2)]
    wanted = [encode(stock_chain(of.model, of.clip, entries)[1]) for entries in sets]
    clips = [
        open_clip(DaemonModels(calls, f"turn {number}", "SD1.5"), of.encoders, "STABLE_DIFFUSION")
        for number in range(2)
    ]
    for _ in range(10):
        for clip, entries, right in zip(clips, sets, wanted, strict=True):
            assert_same(encode(put_on(of.model, clip, entries).clip), right)


def test_new_strengths_send_no_weights_to_the_daemon(stock, loras, models, calls):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of = stock("sd15")
    clip = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    names = loras("sd15", 3)
    encode(put_on(of.model, clip, random_strengths(names, 1)).clip)
    sent, hashed = calls.sent_bytes, models.digests.hashed_bytes
    for seed in range(2, 7):
        encode(put_on(of.model, clip, random_strengths(names, seed)).clip)
    assert (calls.sent_bytes, models.digests.hashed_bytes) == (sent, hashed)

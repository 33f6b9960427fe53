"""Models are loaded without copying what need not be copied, and give what stock ones give."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from pathlib import Path

import pytest
import torch
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError

from .conftest import latent, same
from .engine_client import spec_of
from .random_weights import save

TOKENS = [49406, 320, *[49407] * 75]
TEXT = "a cat (with a hat:1.2), (on a mat:0.7)"


def _address_in_file(file, tensor):
    """Does a tensor lie in a mapping of the file?"""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        ends, *_, path = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in ends.split("-"))
        if path.strip() == str(file) and first <= tensor.data_ptr() < last:
            return True
    return False


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


def _encoded(clip, text=TEXT):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)


@pytest.mark.parametrize(
    ("name", "start", "dtype"),
    [
        pytest.param("clip_l", None, "", id="half"),
        pytest.param("clip_l", 8, "", id="half, at 8 modulo 16"),
        pytest.param("clip_l_fp32", 0, "float32", id="full"),
        pytest.param("clip_l_fp32", 8, "float32", id="full, at 8 modulo 16"),
        pytest.param("clip_l_fp32", 16, "float32", id="full, at 16 modulo 64"),
        pytest.param("clip_l_fp32", None, "", id="stored in full, used in half"),
        pytest.param("clip_l", None, "bfloat16", id="stored in half, used as bfloat16"),
    ],
)
def test_a_text_encoder_gives_what_a_stock_one_gives(
    files, client, load, stock_clip, name, start, dtype
):
    file = files(name, start)
    model = load("clip", file, dtype=dtype)
    options = {"dtype": getattr(torch, dtype)} if dtype else {}
    stock = stock_clip(file, **options)
    got = client.call(model, "encode_token_weights", stock.tokenize(TEXT))
    assert same(got, _encoded(stock))


def test_the_pair_of_sdxl_gives_what_a_stock_one_gives(files, client, load, stock_clip):
    pair = (files("clip_l"), files("clip_g"))
    model, stock = load("clip", *pair), stock_clip(*pair)
    got = client.call(model, "encode_token_weights", stock.tokenize("a cat"))
    assert same(got, _encoded(stock, "a cat"))


@linux
def test_weights_that_are_converted_before_use_are_mapped_wherever_they_lie(files, load):
    file = files("clip_l", 8)
    encoder = load("clip", file).model.object.cond_stage_model
    assert all(_address_in_file(file, w) for w in encoder.clip_l.transformer.parameters())


@linux
@pytest.mark.parametrize(("start", "mapped"), [(0, True), (8, False), (16, False)])
def test_weights_that_are_used_as_they_are_are_mapped_where_torch_would_put_them(
    files, load, start, mapped
):
    file = files("vae_fp32", start)
    vae = load("vae", file, dtype="float32").model.object
    weight = vae.first_stage_model.decoder.conv_in.weight
    assert _address_in_file(file, weight) is mapped
    assert mapped or weight.data_ptr() % 64 == 0


@pytest.mark.parametrize("side", [1, 8])
@pytest.mark.parametrize(
    ("name", "start"), [("vae", None), ("vae_fp32", 0), ("vae_fp32", 8), ("taesd", None)]
)
def test_a_vae_gives_what_a_stock_one_gives(files, client, load, stock_vae, name, start, side):
    file = files(name, start)
    model, stock = load("vae", file), stock_vae(file)
    with torch.inference_mode():
        image = stock.decode(latent(side))
        again = stock.encode(image)
    got = client.call(model, "decode", latent(side))
    assert same(got, image)
    assert same(client.call(model, "encode", got), again), "the layout of the image came along"


def test_a_clip_vision_model_gives_what_a_stock_one_gives(files, client, load):
    import comfy.clip_vision

    file = files("clip_vision")
    stock = comfy.clip_vision.load(str(file))
    image = torch.rand((2, 40, 50, 3), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = vars(stock.encode_image(image))
    assert same(client.call(load("clip_vision", file), "encode_image", image), expected)


def test_what_is_baked_into_a_checkpoint_gives_what_stock_gives(files, client, load):
    import comfy.sd

    file = files("checkpoint")
    found = comfy.sd.load_checkpoint_guess_config(str(file), output_model=False)
    clip, vae = load("clip", file, checkpoint="1"), load("vae", file, checkpoint="1")
    got = client.call(clip, "encode_token_weights", found[1].tokenize(TEXT))
    assert same(got, _encoded(found[1]))
    with torch.inference_mode():
        assert same(client.call(vae, "decode", latent()), found[2].decode(latent()))


def test_a_file_without_a_projection_serves_all_that_does_not_need_it(
    files, client, load, stock_clip, tmp_path
):
    from safetensors.torch import load_file

    weights = load_file(files("clip_l"))
    del weights["text_projection.weight"]  # stock leaves whatever its memory held there
    file = save(weights, tmp_path / "without_projection.safetensors")
    model, stock = load("clip", file), stock_clip(file)
    assert not [n for n, weight in model.model.base.model.named_parameters() if weight.is_meta]
    tokens = stock.tokenize(TEXT)
    assert same(client.call(model, "encode_token_weights", tokens), _encoded(stock))


def test_nothing_is_left_without_a_value(files, load):
    for name, kind in (("clip_l", "clip"), ("vae", "vae"), ("clip_vision", "clip_vision")):
        module = load(kind, files(name)).model.base.model
        assert not [n for n, weight in module.named_parameters() if weight.is_meta]


def test_an_unloaded_model_is_gone_even_while_its_resident_is_held(files, client, load):
    import comfy.model_management

    model = load("clip", files("clip_l"))
    client.call(model, "encode", [TOKENS], module="clip_l")
    module = weakref.ref(model.model.base.model)
    client.engine.unload(model)
    gc.collect()
    assert module() is None
    assert not [m for m in comfy.model_management.current_loaded_models if m.model is None]


@linux
def test_an_unloaded_model_keeps_no_file_mapped(files, client, load):
    file = files("clip_l_other")
    client.engine.unload(load("clip", file))
    assert str(file) not in Path("/proc/self/maps").read_text("utf-8")


def test_comfyui_does_not_drop_a_model_of_the_daemon(files, client, load):
    import comfy.model_management as management

    model = load("clip", files("clip_l"))
    client.call(model, "encode", [TOKENS], module="clip_l")
    management.free_memory(1e30, torch.device("cpu"))
    assert [m for m in management.current_loaded_models if m.model is model.model.applied[1]]
    client.engine.close()
    management.free_memory(1e30, torch.device("cpu"))
    assert not [m for m in management.current_loaded_models if m.model is model.model.applied[1]]


def test_a_model_sleeps_and_wakes_with_the_same_results(files, client, load):
    import comfy.model_management as management

    model = load("clip", files("clip_l"))
    before = client.call(model, "encode", [TOKENS], module="clip_l")
    client.engine.move(model, "ram")
    assert not [m for m in management.current_loaded_models if m.model.is_clone(model.model.base)]
    client.engine.move(model, "device")
    assert [m for m in management.current_loaded_models if m.model.is_clone(model.model.base)]
    client.engine._cached.cache.forget(model.model.key)
    assert same(client.call(model, "encode", [TOKENS], module="clip_l"), before)


def test_a_file_that_is_written_again_is_noticed(client, load, tmp_path):
    from .random_weights import taesd

    file = save(taesd(), tmp_path / "taesd.safetensors")
    model = load("vae", file)
    client.call(model, "decode", latent())
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    with pytest.raises(NotFoundError, match=r"'taesd\.safetensors' has changed"):
        client.call(model, "decode", latent())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps mapped files")
@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_file_that_is_gone_serves_on(client, load, tmp_path, fate):
    from .random_weights import taesd

    file = save(taesd(), tmp_path / "taesd.safetensors")
    model = load("vae", file)
    before = client.call(model, "decode", latent())
    if fate == "deleted":
        file.unlink()
    else:
        save(taesd(seed=9), tmp_path / "new").replace(file)
    assert same(client.call(model, "decode", latent()), before)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
def test_files_that_can_run_code_are_refused(client, tmp_path, suffix):
    file = tmp_path / f"encoder{suffix}"
    torch.save({}, file)
    with pytest.raises(BadRequestError, match=f"'encoder{suffix}' is not a .safetensors file"):
        client.engine.load(spec_of("clip", file))


def test_a_file_that_is_cut_off_is_refused(files, client, tmp_path):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(files("taesd").read_bytes()[:-8])
    with pytest.raises(BadRequestError, match=r"ComfyUI cannot load 'cut\.safetensors'"):
        client.engine.load(spec_of("vae", file))


@pytest.mark.parametrize("kind", ["vae", "clip_vision"])
def test_a_file_of_another_kind_is_refused(client, tmp_path, kind):
    file = save({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadRequestError, match=r"'other\.safetensors' holds no"):
        client.engine.load(spec_of(kind, file))


def test_a_clip_type_that_comfyui_lacks_is_refused(files, client):
    with pytest.raises(BadRequestError, match="no CLIP type 'moon'"):
        client.engine.load(spec_of("clip", files("clip_l"), clip_type="MOON"))


@pytest.mark.parametrize("name", ["clip_l", "checkpoint"])
def test_no_tokenizer_is_made_for_clients_that_send_tokens(client, load, files, monkeypatch, name):
    import comfy.sd1_clip

    kind, made = comfy.sd1_clip.SDTokenizer, []
    stock = kind.__init__
    monkeypatch.setattr(
        kind,
        "__init__",
        lambda self, *args, **options: made.append(1) or stock(self, *args, **options),
    )
    options = {"checkpoint": "1"} if name == "checkpoint" else {}
    model = load("clip", files(name), **options)
    client.call(model, "encode_token_weights", {"l": [[(token, 1.0) for token in TOKENS]]})
    assert made == []
    expected = comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights(TEXT)
    made.clear()
    assert [model.model.object.tokenize(TEXT) for _ in range(2)] == [expected] * 2
    assert made == [1]

"""Calls of methods: which may be called, with what state, and how they are stopped and watched."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from luna_collection.luna_daemon.engines.engine import SilentControl
from luna_collection.luna_daemon.errors import (
    BadRequestError,
    CanceledError,
    IncompatibleError,
    OutOfMemoryError,
)

from .conftest import latent, same

TEXT = "a cat (with a hat:1.2)"
TOKENS = [49406, 320, *[49407] * 75]


@pytest.fixture
def clip(files, load):
    return load("clip", files("clip_l"))


@pytest.fixture
def vae(files, load):
    return load("vae", files("vae"))


@pytest.mark.parametrize(
    ("method", "module"),
    [
        ("load_sd", ""),
        ("to", "clip_l"),
        ("__init__", ""),
        ("generate", "moon"),
        ("encode", "clip_l.transformer"),
        ("encode", "load_sd"),
    ],
)
def test_only_what_is_meant_to_be_called_can_be_called(client, clip, method, module):
    with pytest.raises(BadRequestError, match=r"that can be called from outside|has no part"):
        client.call(clip, method, [], module=module)


@pytest.mark.parametrize(
    ("method", "module"), [("get_sd", ""), ("decode", "decoder"), ("to", "first_stage_model")]
)
def test_only_what_is_meant_to_be_called_of_a_vae_can_be_called(client, vae, method, module):
    with pytest.raises(BadRequestError, match="that can be called from outside"):
        client.call(vae, method, latent(), module=module)


def test_a_method_that_this_encoder_lacks_is_refused(client, clip):
    with pytest.raises(
        BadRequestError, match=r"ComfyUI's 'generate' failed|has no method 'generate'"
    ):
        client.call(clip, "generate", {"l": [[(49406, 1.0)]]}, do_sample=False)


@pytest.mark.parametrize("layer", [None, -2, -5])
def test_options_of_the_encoders_come_with_the_call(client, clip, files, stock_clip, layer):
    stock = stock_clip(files("clip_l"))
    stock.clip_layer(layer)
    tokens = stock.tokenize(TEXT)
    with torch.inference_mode():
        expected = stock.encode_from_tokens(tokens, return_pooled=True)
    inner = stock.cond_stage_model.clip_l
    state = {"clip_l": {"layer": inner.layer, "layer_idx": inner.layer_idx}}
    client.call(clip, "encode_token_weights", tokens, state={"clip_l": {"zero_out_masked": True}})
    assert same(client.call(clip, "encode_token_weights", tokens, state=state), expected)
    assert clip.model.object.cond_stage_model.clip_l.zero_out_masked is False, "nothing stays"


def test_unknown_options_are_refused(client, clip):
    with pytest.raises(BadRequestError, match="has no option 'special_tokens'"):
        client.call(clip, "encode", [TOKENS], state={"clip_l": {"special_tokens": {}}})


def test_leaves_of_an_encoder_can_be_called(client, clip, files, stock_clip):
    stock = stock_clip(files("clip_l")).cond_stage_model.clip_l
    with torch.inference_mode():
        expected = stock.encode([TOKENS])
        embeds, _mask, count, info = stock.process_tokens([TOKENS], torch.device("cpu"))
        inner = stock.transformer(
            None, None, embeds=embeds, num_tokens=count, intermediate_output=-2,
            final_layer_norm_intermediate=True, dtype=torch.float32, embeds_info=info,
        )  # fmt: skip
    assert same(client.call(clip, "encode", [TOKENS], module="clip_l"), expected)
    assert same(client.call(clip, "forward", [TOKENS], module="clip_l"), expected)
    got = client.call(
        clip, "transformer", None, None, module="clip_l", embeds=embeds, num_tokens=count,
        intermediate_output=-2, final_layer_norm_intermediate=True, dtype=torch.float32,
        embeds_info=info,
    )  # fmt: skip
    assert same(got, inner)


def test_an_embedding_among_the_tokens_counts(client, clip, files, stock_clip):
    stock = stock_clip(files("clip_l"))
    learned = torch.randn((768,), generator=torch.Generator().manual_seed(1))
    tokens = {"l": [[(49406, 1.0), (learned, 1.0), *[(49407, 1.0)] * 75]]}
    with torch.inference_mode():
        expected = stock.encode_from_tokens(tokens, return_pooled=True)
    assert same(client.call(clip, "encode_token_weights", tokens), expected)
    tokens["l"][0][1] = (learned + 1, 1.0)
    assert not same(client.call(clip, "encode_token_weights", tokens), expected)


def test_a_repeated_encode_comes_from_the_cache(client, clip):
    first = client.call(clip, "encode", [TOKENS], module="clip_l")
    assert not client.cache_hit
    assert same(client.call(clip, "encode", [TOKENS], module="clip_l"), first)
    assert client.cache_hit
    client.call(clip, "encode", [TOKENS], module="clip_l", state={"clip_l": {"layer": "last"}})
    assert not client.cache_hit


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("decode_tiled", {"tile_x": 8, "tile_y": 8, "overlap": 2}),
        ("decode_tiled_", {"tile_x": 8, "tile_y": 8, "overlap": 2}),
    ],
)
def test_tiled_forms_give_what_stock_ones_give(client, files, load, stock_vae, method, options):
    file = files("taesd")
    model, stock = load("vae", file), stock_vae(file)
    with torch.inference_mode():
        expected = getattr(stock, method)(latent(12), **options)
    assert same(client.call(model, method, latent(12), **options), expected)


def test_the_inner_model_can_be_called(client, vae, files, stock_vae):
    stock = stock_vae(files("vae"))
    with torch.inference_mode():
        expected = stock.first_stage_model.decode(latent())
        image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(2))
        encoded = stock.first_stage_model.encode(image)
    assert same(client.call(vae, "decode", latent(), module="first_stage_model"), expected)
    assert same(client.call(vae, "encode", image, module="first_stage_model"), encoded)


class Stopper(SilentControl):
    """Gives up at the n-th time it is asked."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.asked = at, 0
        self.steps: list[tuple[int, int]] = []

    def check(self) -> None:
        self.asked += 1
        if self.asked == self.at:
            raise CanceledError("The request was cancelled.")

    def progress(self, done: int, total: int) -> None:
        self.steps.append((done, total))


@pytest.mark.parametrize("at", [1, 2, 30])
def test_a_decode_stops_at_its_next_operation(client, vae, at):
    client.control = Stopper(at)
    with pytest.raises(CanceledError):
        client.call(vae, "decode", latent())
    assert client.control.asked == at, "nothing was asked after that"
    client.control = SilentControl()
    client.call(vae, "decode", latent())


def test_an_encode_stops_too(client, clip):
    client.control = Stopper(10)
    with pytest.raises(CanceledError):
        client.call(clip, "encode", [TOKENS], module="clip_l")


def test_a_cancellation_from_another_thread_is_heard(client, vae):
    class Watched(SilentControl):
        stopped = threading.Event()
        begun = threading.Event()

        def check(self) -> None:
            self.begun.set()
            if self.stopped.is_set():
                raise CanceledError("The request was cancelled.")

    client.control = Watched()
    done: list[str] = []

    def work() -> None:
        try:
            for _ in range(1000):
                client.call(vae, "decode", latent(16))
        except CanceledError:
            done.append("cancelled")

    thread = threading.Thread(target=work)
    thread.start()
    assert Watched.begun.wait(30)
    time.sleep(0.05)
    Watched.stopped.set()
    thread.join(60)
    assert done == ["cancelled"]


def test_tiles_tell_of_their_progress(client, files, load):
    client.control = Stopper(-1)
    options = {"tile_x": 8, "tile_y": 8, "overlap": 2}
    client.call(load("vae", files("taesd")), "decode_tiled", latent(12), **options)
    steps = client.control.steps
    assert steps[-1][0] == steps[-1][1] > 1


def test_what_comfyui_warns_about_reaches_the_caller(client, clip):
    wrong = torch.zeros(7)
    tokens = {"l": [[(49406, 1.0), (wrong, 1.0), *[(49407, 1.0)] * 75]]}
    client.call(clip, "encode_token_weights", tokens)
    assert [note for note in client.control.notes if "shape mismatch" in note]


def test_an_error_of_comfyui_is_told_with_its_words(client, vae):
    with pytest.raises(BadRequestError, match="ComfyUI's 'decode' failed with RuntimeError"):
        client.call(vae, "decode", torch.zeros(1, 5, 8, 8))


def test_what_does_not_fit_into_memory_is_said(client, vae):
    with pytest.raises(OutOfMemoryError, match="ComfyUI's 'encode' needs more memory"):
        client.engine.run(*_huge_encode(vae), client.control)


def _huge_encode(vae):
    from luna_collection.luna_daemon.protocol.work import CallModel
    from luna_collection.luna_daemon.transport.trees import dump_tree

    # One number that looks like an image of a million pixels on each side.
    image = torch.zeros(()).expand(1, 2**20, 2**20, 3)
    raw, tensors = dump_tree(((image,), {}))
    work = CallModel(kind="vae", role="it", method="encode", arguments=raw)
    return work, "", {"it": vae}, tensors


@pytest.mark.parametrize("version", ["comfyui", "torch"])
def test_another_version_at_the_client_is_refused(comfyui, files, version):
    from luna_collection.luna_daemon.engines.comfy.engine import ComfyEngine
    from luna_collection.luna_daemon.engines.engine import EngineSettings

    from .engine_client import spec_of

    engine = ComfyEngine(EngineSettings("cpu"), comfyui.root, {version: "0.1"})
    try:
        with pytest.raises(IncompatibleError, match=f"{version} 0.1 instead of "):
            engine.load(spec_of("clip", files("clip_l")))
    finally:
        engine.close()


def test_settings_cannot_change_in_a_running_comfyui(comfyui):
    from luna_collection.luna_daemon.engines.comfy.boot import boot

    boot(comfyui.root, "cpu", {})
    with pytest.raises(IncompatibleError, match="does not know: moon"):
        boot(comfyui.root, "cpu", {"moon": "full"})

"""Work for scripts gives what ComfyUI's own nodes give."""

from __future__ import annotations

import pytest
import torch
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.work import (
    DecodeLatent,
    EncodeImage,
    EncodeText,
    Tiling,
)

from .conftest import latent, same

TEXTS = ("a cat (with a hat:1.2)", "a dog")


def run(client, work, *models, tensors=()):
    held = {model.spec.role: model for model in models}
    return client.engine.run(work, "SD1.5", held, tensors, client.control)


@pytest.mark.parametrize("skip", [0, 1, 3])
def test_texts_are_encoded_one_by_one(client, load, files, stock_clip, skip):
    clip, stock = load("clip", files("clip_l")), stock_clip(files("clip_l"))
    if skip:
        stock.clip_layer(-1 - skip)  # as CLIPSetLastLayer does
    with torch.inference_mode():
        found = [stock.encode_from_tokens(stock.tokenize(t), return_pooled=True) for t in TEXTS]
    outcome = run(client, EncodeText(texts=TEXTS, clip_skip=skip), clip)
    cond, pooled = (torch.cat(column) for column in zip(*found, strict=True))
    assert same(outcome.tensors, (cond, pooled))
    assert not outcome.cache_hit
    assert run(client, EncodeText(texts=TEXTS, clip_skip=skip), clip).cache_hit
    assert not run(client, EncodeText(texts=TEXTS, clip_skip=skip + 1), clip).cache_hit


def test_a_text_is_encoded_with_the_plain_weights_after_a_lora(client, load, files, stock_clip):
    import comfy.sd

    from .engine_client import SentRecipe
    from .random_weights import text_lora

    clip, stock = load("clip", files("clip_l")), stock_clip(files("clip_l"))
    patched = comfy.sd.load_lora_for_models(None, stock, text_lora(1), 0, 1.0)[1]
    recipe = SentRecipe(patched.patcher.patches)
    client.call(clip, "encode_token_weights", stock.tokenize(TEXTS[0]), recipe=recipe)
    outcome = run(client, EncodeText(texts=TEXTS[:1]), clip)
    with torch.inference_mode():
        expected = stock.encode_from_tokens(stock.tokenize(TEXTS[0]), return_pooled=True)
    assert same(outcome.tensors, expected)


def test_texts_of_different_lengths_are_not_joined(client, load, files):
    long = " ".join(["word"] * 100)
    with pytest.raises(BadRequestError, match="different lengths"):
        run(client, EncodeText(texts=("short", long)), load("clip", files("clip_l")))


@pytest.mark.parametrize("tiling", [None, Tiling(tile=64, overlap=16)], ids=["whole", "tiled"])
def test_images_and_latents_are_those_of_the_nodes(client, load, files, stock_vae, tiling):
    vae, stock = load("vae", files("taesd")), stock_vae(files("taesd"))
    with torch.inference_mode():
        if tiling is None:
            images = stock.decode(latent(12))
            latents = stock.encode(images)
        else:
            images = stock.decode_tiled(latent(12), tile_x=8, tile_y=8, overlap=2)
            latents = stock.encode_tiled(images, tile_x=64, tile_y=64, overlap=16)
    decoded = run(client, DecodeLatent(latent=0, tiling=tiling), vae, tensors=[latent(12)])
    assert same(decoded.tensors[0], images)
    encoded = run(client, EncodeImage(image=0, tiling=tiling), vae, tensors=decoded.tensors)
    assert same(encoded.tensors[0], latents)


def test_a_workflow_without_the_model_is_told_so(client, load, files):
    with pytest.raises(BadRequestError, match="needs a VAE; the workflow has registered none"):
        run(client, DecodeLatent(latent=0), load("clip", files("clip_l")), tensors=[latent()])
    with pytest.raises(BadRequestError, match="names tensor 3, but has 0"):
        run(client, DecodeLatent(latent=3), load("vae", files("taesd")))


def test_an_overlap_as_large_as_the_tile_is_refused(client, load, files):
    work = DecodeLatent(latent=0, tiling=Tiling(tile=64, overlap=64))
    with pytest.raises(BadRequestError, match="cannot overlap"):
        run(client, work, load("vae", files("taesd")), tensors=[latent()])

"""Patch sets: the weights that stock ComfyUI makes of them, one set after the other, and back."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from luna_collection.luna_daemon.engines.recipe_book import Ingredients, RecipeBook
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError
from luna_collection.luna_daemon.protocol.work import Recipe
from luna_collection.luna_daemon.transport.digests import tree_digest
from luna_collection.luna_daemon.transport.trees import dump_tree

from .conftest import same
from .engine_client import SentRecipe, weight_of
from .random_weights import text_lora

TEXT = "a cat (with a hat:1.2)"


@pytest.fixture(scope="module")
def stock(files):
    import comfy.sd

    return comfy.sd.load_clip([str(files("clip_l"))])


@pytest.fixture
def model(files, load):
    return load("clip", files("clip_l"))


def with_lora(clip, seed, strength=0.8):
    import comfy.sd

    return comfy.sd.load_lora_for_models(None, clip, text_lora(seed), 0, strength)[1]


def recipe_of(clip):
    """What a client makes of a clip's patches."""
    hooks = clip.patcher.get_combined_hook_patches(clip.patcher.forced_hooks)
    return SentRecipe(clip.patcher.patches, hooks)


def encoded(clip):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)


def test_loras_come_and_go_and_leave_nothing_behind(client, model, stock):
    plain, one = encoded(stock), with_lora(stock, 1)
    both = with_lora(one, 2, -0.5)
    expected = {clip: encoded(clip) for clip in (one, both)}
    tokens = stock.tokenize(TEXT)
    assert not same(expected[one], plain)
    before = {n: w.data_ptr() for n, w in model.model.base.model.named_parameters()}
    for clip in (None, one, both, one, None):
        client.engine._cached.cache.forget(model.spec.key)
        recipe = recipe_of(clip) if clip else None
        got = client.call(model, "encode_token_weights", tokens, recipe=recipe)
        assert same(got, expected[clip] if clip else plain)
    after = {n: w.data_ptr() for n, w in model.model.base.model.named_parameters()}
    assert before == after, "the very weights of the file are back"


def test_a_patch_set_is_sent_once(client, model, stock):
    tokens = stock.tokenize(TEXT)
    recipe = recipe_of(with_lora(stock, 3))
    client.call(model, "encode_token_weights", tokens, recipe=recipe)
    assert [(n.recipe, len(n.blobs)) for n in client.needed] == [
        (True, 0),
        (False, len(recipe.tensors)),
    ]
    client.call(model, "encode_token_weights", tokens, recipe=recipe_of(with_lora(stock, 4)))
    client.engine._cached.cache.forget(model.spec.key)
    client.call(model, "encode_token_weights", tokens, recipe=recipe)
    assert client.needed == []
    other_strength = recipe_of(with_lora(stock, 3, 0.3))
    client.call(model, "encode_token_weights", tokens, recipe=other_strength)
    assert [(n.recipe, n.blobs) for n in client.needed] == [(True, ())], "the tensors are there"


def hooked(clip, seed):
    import comfy.hooks

    copy = clip.clone()
    group = comfy.hooks.create_hook_lora(text_lora(seed), 0.0, 0.7)
    target = comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip)
    copy.patcher.forced_hooks = group.clone()
    copy.patcher.register_all_hook_patches(group, target)
    return copy


@pytest.mark.parametrize("first", [None, 5], ids=["alone", "upon a LoRA"])
def test_hooks_are_a_stage_of_their_own(client, model, stock, files, first):
    from safetensors.torch import load_file

    plain = encoded(stock)
    below = with_lora(stock, first) if first else stock
    clip = hooked(below, 6)
    expected, recipe = encoded(clip), recipe_of(clip)
    tokens = stock.tokenize(TEXT)
    before = {n: w.data_ptr() for n, w in model.model.base.model.named_parameters()}
    assert not same(expected, encoded(below))
    assert same(client.call(model, "encode_token_weights", tokens, recipe=recipe), expected)
    assert same(client.call(model, "encode_token_weights", tokens), plain)
    after = {n: w.data_ptr() for n, w in model.model.base.model.named_parameters()}
    assert before == after, "hooks wrote into copies, not into the file's weights"
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    got = client.weights(model, [f"clip_l.transformer.{name}"])[0]
    assert torch.equal(got, load_file(files("clip_l"))[name])


def test_a_model_is_merged_with_weights_that_the_daemon_holds(client, load, model, files, stock):
    import comfy.sd

    other_stock = comfy.sd.load_clip([str(files("clip_l_other"))])
    merged = stock.clone()
    for key, patches in other_stock.get_key_patches().items():
        if not key.endswith((".position_ids", ".logit_scale")):
            merged.add_patches({key: patches}, 0.4, 0.6)
    expected = encoded(merged)

    other = load("clip", files("clip_l_other"))
    tokens = stock.tokenize(TEXT)
    # Its weights are the plain ones also while a LoRA is in them.
    client.call(other, "encode_token_weights", tokens, recipe=recipe_of(with_lora(other_stock, 7)))
    sent = SentRecipe(
        {
            key: [
                (
                    strength,
                    [(weight_of(other.spec.key, key), None), *value[1:]],
                    model_part,
                    off,
                    fn,
                )
                for strength, value, model_part, off, fn in patches
            ]
            for key, patches in merged.patcher.patches.items()
        }
    )
    assert not sent.tensors, "no weight travels"
    got = client.call(model, "encode_token_weights", tokens, recipe=sent, also=[other])
    assert same(got, expected)
    module = weakref.ref(other.model.base.model)
    client.engine.unload(other)
    gc.collect()
    assert module() is None, "the merge holds on to nothing of it"
    assert same(client.call(model, "encode_token_weights", tokens), encoded(stock))
    with pytest.raises(NotFoundError, match="a model that the workflow does not hold"):
        client.call(load("clip", files("clip_l"), key="again"), "encode", [], recipe=sent)


def test_a_lora_is_in_the_weights_that_are_fetched(client, model, stock):
    name = "clip_l.transformer.text_model.encoder.layers.3.mlp.fc2.weight"
    clip = with_lora(stock, 8)
    encoded(clip)
    expected = clip.cond_stage_model.state_dict()[name].clone()
    assert same(client.weights(model, [name], recipe_of(clip))[0], expected)
    with pytest.raises(NotFoundError, match="no weight 'moon'"):
        client.weights(model, ["moon"])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param([("patches", {"w": [(1.0, ("moon", 1), 1.0, None, None)]})], "no kind", id="kind"),
        pytest.param([("patches", {"w": [(1.0,)]})], "makes no sense", id="short"),
        pytest.param([("patches", 3)], "makes no sense", id="no table"),
        pytest.param([("moon", {})], "no stage 'moon'", id="stage"),
        pytest.param(7, "makes no sense", id="number"),
        pytest.param(
            [("patches", {"w": [(1.0, ("adapter", "moon", ()), 1.0, None, None)]})],
            "makes no sense",
            id="adapter",
        ),
        pytest.param(
            [("patches", {"w": [(1.0, ("plain", ()), 1.0, None, "f")]})],
            "a function cannot",
            id="function",
        ),
    ],
)  # fmt: skip
def test_nonsense_is_refused(value, why):
    from luna_collection.luna_daemon.engines.comfy.patches import Cook

    raw = dump_tree(value)[0]
    found = RecipeBook(2**20).gather(Recipe(digest=tree_digest(raw), stages=raw), ())
    assert isinstance(found, Ingredients)
    with pytest.raises(BadRequestError, match=why):
        Cook(found, {}).stages()

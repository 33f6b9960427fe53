"""Text encoders in the daemon give what ComfyUI's own give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, encode, with_lora


def test_it_is_a_clip(clips):
    import comfy.sd

    assert isinstance(clips[0], comfy.sd.CLIP)
    assert isinstance(clips[0].clone(), type(clips[0]))
    assert type(clips[0].cond_stage_model).__name__ == type(clips[1].cond_stage_model).__name__


@pytest.mark.parametrize(
    "text", ["", "a cat", "word " * 120, "(long:1.2) words " * 90, "a (cat:0.4) (hat:1.6)"]
)
def test_text_encode(clips, text):
    assert_both(clips, lambda clip: encode(clip, text))


@pytest.mark.parametrize("layer", [-1, -2, -5])
def test_set_last_layer(clips, layer):
    import nodes

    assert_both(clips, lambda c: encode(nodes.CLIPSetLastLayer().set_last_layer(c, layer)[0]))


@pytest.mark.parametrize("how", ["combine", "average", "concat"])
def test_conditioning_is_combined(clips, how):
    import nodes

    def run(clip: Any) -> Any:
        one, two = encode(clip, "a red fox"), encode(clip, "snow " * 90)
        if how == "combine":
            return nodes.ConditioningCombine().combine(one, two)[0]
        if how == "average":
            return nodes.ConditioningAverage().addWeighted(one, two, 0.3)[0]
        return nodes.ConditioningConcat().concat(one, two)[0]

    assert_both(clips, run)


def test_two_patched_clones_take_turns(clips):
    import nodes

    def run(clip: Any) -> list[Any]:
        skipped = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
        patched = with_lora(clip, text_lora(5))
        turns = [clip, patched, skipped, patched, clip, with_lora(skipped, text_lora(6), -0.4)]
        return [encode(turn, f"turn {number}") for number, turn in enumerate(turns)]

    assert_both(clips, run)


def test_lora_and_back(clips):
    plain = assert_both(clips, encode)
    first, second = text_lora(5), text_lora(6)
    one = assert_both(clips, lambda c: encode(with_lora(c, first)))
    two = assert_both(clips, lambda c: encode(with_lora(with_lora(c, first), second, -0.3)))
    assert_differ(plain, one)
    assert_differ(one, two)
    assert_both(clips, encode)


def adapters_of_every_kind() -> dict[str, torch.Tensor]:
    """Return a file with each kind of adapter that ComfyUI reads, one for each layer."""
    generator = torch.Generator().manual_seed(9)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    kinds: list[dict[str, torch.Tensor]] = [
        {
            "hada_w1_a": random(768, 4),
            "hada_w1_b": random(4, 768),
            "hada_w2_a": random(768, 4),
            "hada_w2_b": random(4, 768),
            "alpha": torch.tensor(2.0),
        },
        {"lokr_w1": random(8, 8), "lokr_w2": random(96, 96)},
        {
            "lokr_w1": random(8, 8),
            "lokr_w2_a": random(96, 4),
            "lokr_w2_b": random(4, 96),
            "alpha": torch.tensor(2.0),
        },
        {"oft_blocks": random(96, 8, 8) * 0.1, "alpha": torch.tensor(0.1)},
        {
            "lora_up.weight": random(768, 4),
            "lora_down.weight": random(4, 768),
            "dora_scale": random(768, 1) + 1.0,
            "alpha": torch.tensor(4.0),
        },
        {"diff": random(768, 768), "diff_b": random(768)},
        {"set_weight": random(768, 768)},
        # As trainers of transposed views leave them: the order in memory is part of the content.
        {"lora_up.weight": random(4, 768).T, "lora_down.weight": random(768, 4).T},
        {"oft_blocks": random(2, 96, 8, 8) * 0.1, "alpha": torch.tensor(0.1)},  # BOFT
        {
            "a1.weight": random(768, 4),
            "a2.weight": random(4, 768),
            "b1.weight": random(768, 4),
            "b2.weight": random(4, 768),
            "alpha": torch.tensor(2.0),
        },
    ]
    return {
        f"lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj.{name}": tensor
        for layer, tensors in enumerate(kinds)
        for name, tensor in tensors.items()
    }


def test_adapters_of_every_kind(clips):
    weights = adapters_of_every_kind()
    patches = with_lora(clips[1], weights).patcher.patches.values()
    kinds = [getattr(patch[1], "name", "") or patch[1][0] for (patch, *_) in patches]
    adapters = ["lora", "lora", "loha", "lokr", "lokr", "oft", "boft", "glora"]
    assert sorted(kinds) == sorted([*adapters, "diff", "diff", "set"])
    assert_differ(assert_both(clips, lambda c: encode(with_lora(c, weights))), encode(clips[1]))
    assert_both(clips, lambda c: encode(with_lora(with_lora(c, weights, 0.4), text_lora(5))))
    assert_both(clips, encode)


def test_a_lora_is_uploaded_once(clips, calls):
    weights = text_lora(15)
    encode(with_lora(clips[0], weights), "first")
    before = calls.sent_bytes
    encode(with_lora(clips[0], weights, 0.31), "second")
    assert calls.sent_bytes == before


@pytest.mark.parametrize("scheduled", [False, True])
def test_hooks(clips, scheduled):
    from comfy_extras.nodes_hooks import SetClipHooks

    def run(clip: Any) -> Any:
        hooks = _lora_hook()
        clip = with_lora(clip, text_lora(5), 0.5)
        args = {"schedule_clip": scheduled, "apply_to_conds": False, "hooks": hooks}
        return encode(SetClipHooks().apply_hooks(clip, **args)[0])

    assert len(assert_both(clips, run)) == (3 if scheduled else 1)
    assert_both(clips, encode)


@pytest.mark.parametrize("source", ["here", "daemon"])
def test_a_hook_that_takes_a_model_for_a_lora(clips, models, files, source):
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    from .conftest import open_pair

    others = open_pair(models, files("clip_l_other"))
    donors = others if source == "daemon" else (others[1], others[1])
    donor_of = dict(zip(map(id, clips), donors, strict=True))

    def run(clip: Any) -> Any:
        weights = donor_of[id(clip)].cond_stage_model.state_dict()
        some = {name: weight for name, weight in weights.items() if ".layers.3." in name}
        hooks = comfy.hooks.create_hook_model_as_lora(None, some, 0.0, 0.6)
        args = {"schedule_clip": False, "apply_to_conds": False, "hooks": hooks}
        return encode(SetClipHooks().apply_hooks(clip, **args)[0])

    assert_differ(assert_both(clips, run), encode(clips[1]))
    assert_both(clips, encode)


def test_merges_send_no_weights(clips, models, files, calls):
    from comfy_extras.nodes_model_merging import CLIPAdd, CLIPMergeSimple, CLIPSubtract

    from .conftest import open_pair

    others = open_pair(models, files("clip_l_other"))
    other_of = dict(zip(map(id, clips), others, strict=True))
    before = calls.sent_bytes
    for merge in (
        lambda c: CLIPMergeSimple().merge(c, other_of[id(c)], 0.3)[0],
        lambda c: CLIPAdd().merge(c, other_of[id(c)])[0],
        lambda c: CLIPMergeSimple().merge(with_lora(c, text_lora(5)), other_of[id(c)], 0.6)[0],
        lambda c: CLIPSubtract().merge(c, with_lora(other_of[id(c)], text_lora(5)), 0.4)[0],
    ):
        merged = assert_both(clips, lambda c, merge=merge: encode(merge(c)))
        assert_differ(merged, encode(clips[1]))
    assert calls.sent_bytes - before < 2 * 1024**2  # the LoRA, once; a text encoder has 235 MB


def test_sub_encoders_called_directly(clips):
    import comfy.model_management

    def run(clip: Any) -> Any:
        tokens = clip.tokenize("direct (sub:1.4) model")["l"]
        root = clip.cond_stage_model
        root.reset_clip_options()
        root.set_clip_options({"layer": -3})
        comfy.model_management.load_models_gpu([clip.patcher])
        root.set_clip_options({"execution_device": clip.patcher.load_device})
        ids = [[token for token, _ in batch] for batch in tokens]
        return root.clip_l.encode_token_weights(tokens), root.clip_l(ids), root.clip_l.encode(ids)

    assert_both(clips, run)


def _lora_hook() -> Any:
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(lora=text_lora(6), strength_model=1.0, strength_clip=0.9)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.35, 0.5), (0.0, 0.8)):
        keyframes.add(comfy.hooks.HookKeyframe(strength, start))
    hooks.set_keyframes_on_hooks(keyframes)
    return hooks


def test_weights_describe_themselves(clips):
    ours, stock = (
        dict(clip.cond_stage_model.named_parameters(remove_duplicate=False)) for clip in clips
    )
    assert ours.keys() == stock.keys()
    for name, weight in ours.items():
        assert (weight.shape, weight.dtype) == (stock[name].shape, stock[name].dtype)
        assert weight.device == stock[name].device
        assert isinstance(weight, torch.nn.Parameter)
    assert clips[0].patcher.model_size() == clips[1].patcher.model_size()

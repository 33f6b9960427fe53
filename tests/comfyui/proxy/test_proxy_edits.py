"""What other packs do to a CLIP or a VAE: it has its effect, or it is refused in one sentence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, decoded, encode, with_lora

_CONVERTING = {torch.float16: "half", torch.bfloat16: "bfloat16", torch.float32: "float"}


@contextmanager
def refused(*words: str) -> Iterator[None]:
    from luna_collection.luna_daemon.proxy.errors import EditNotSharedError

    with pytest.raises(EditNotSharedError) as caught:
        yield
    for word in (*words, "force_local"):
        assert word in str(caught.value)


def halved(encoder: Any, pairs: Any) -> Any:
    """A prompt-weighting function as packs write them."""
    hidden, pooled = encoder.encode([[token for token, _ in batch] for batch in pairs])[:2]
    return hidden * 0.5, pooled


def test_object_patches_of_entry_points_run_here(clips):
    def run(clip: Any) -> Any:
        patched = clip.clone()
        stock = patched.patcher.get_model_object("clip_l.encode_token_weights")
        patched.patcher.add_object_patch(
            "clip_l.encode_token_weights", lambda pairs: [stock(pairs)[0] * 2, stock(pairs)[1]]
        )
        assert patched.patcher.get_model_object("clip_l.encode_token_weights") is not stock
        return encode(patched), encode(clip)

    patched, plain = assert_both(clips, run)
    assert_differ(patched, plain)


@pytest.mark.parametrize("way", ["set back", "deleted"])
def test_replaced_methods_run_here(clips, way):
    def run(clip: Any) -> Any:
        encoder = clip.cond_stage_model.clip_l
        usual = encoder.encode_token_weights
        encoder.encode_token_weights = MethodType(halved, encoder)
        try:
            return encode(clip)
        finally:
            if way == "deleted":
                del encoder.encode_token_weights
            else:
                encoder.encode_token_weights = usual

    assert_differ(assert_both(clips, run), encode(clips[1]))
    assert_both(clips, encode)


def test_only_what_lies_below_a_replaced_method_is_remote(clips, calls):
    encoder = clips[0].cond_stage_model.clip_l
    encoder.encode_token_weights = MethodType(halved, encoder)
    try:
        before = len(calls.made)
        encode(clips[0])
    finally:
        del encoder.encode_token_weights
    assert calls.made[before:] == [("clip_l", "encode")]


def test_hooks_on_an_encoder_run_here(clips):
    def run(clip: Any) -> Any:
        encoder = clip.cond_stage_model.clip_l
        hook = encoder.register_forward_hook(lambda _, __, found: (found[0] * 0.3, *found[1:]))
        try:
            return encode(clip)
        finally:
            hook.remove()

    assert_differ(assert_both(clips, run), encode(clips[1]))
    assert_both(clips, encode)


class Louder(torch.nn.Module):
    """A token table with a pack's own code around it."""

    def __init__(self, table: torch.nn.Module) -> None:
        super().__init__()
        self.table = table

    @property
    def weight(self) -> Any:
        return self.table.weight

    def forward(self, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
        found: torch.Tensor = self.table(tokens, **options)
        return found * 1.5


@contextmanager
def wrapped_table(clip: Any) -> Iterator[None]:
    embeddings = clip.cond_stage_model.clip_l.transformer.text_model.embeddings
    usual = embeddings.token_embedding
    embeddings.token_embedding = Louder(usual)
    try:
        yield
    finally:
        embeddings.token_embedding = usual


def test_a_wrapped_token_table_is_fetched_and_used_here(clips):
    def run(clip: Any) -> Any:
        with wrapped_table(clip):
            return encode(clip), encode(with_lora(clip, text_lora(5)))

    assert_differ(assert_both(clips, run), encode(clips[1]))
    assert_both(clips, encode)


def test_a_wrapped_token_table_that_a_patch_changes_is_refused(clips):
    clip = clips[0].clone()
    name = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    clip.patcher.add_patches({name: ("diff", (torch.ones(49408, 768) * 0.1,))})
    with wrapped_table(clip), refused("token table"):
        encode(clip)
    assert_both(clips, encode)


def test_edits_inside_are_refused_and_forgotten_when_undone(vaes):
    convolutions = [
        module
        for module in vaes[0].first_stage_model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    for module in convolutions:
        module.padding_mode = "circular"
    with refused("vae.safetensors", "padding_mode"):
        decoded(vaes[0])
    for module in convolutions:
        module.padding_mode = "zeros"
    assert_both(vaes, decoded)


def test_harmless_leftovers_are_no_edits(vaes):
    inner = vaes[0].first_stage_model
    inner.decoder.original_forward = inner.decoder.forward
    inner.decoder.forward = inner.decoder.forward
    inner.some_pack_was_here = True
    inner.eval()
    assert_both(vaes, decoded)


def test_a_deleted_attribute_is_an_edit(vaes):
    layer = vaes[0].first_stage_model.decoder.conv_in
    usual = vars(layer).pop("padding")
    try:
        with refused("decoder.conv_in.padding"):
            decoded(vaes[0])
    finally:
        layer.padding = usual
    assert_both(vaes, decoded)


def test_a_layer_that_was_replaced_is_an_edit(vaes):
    decoder = vaes[0].first_stage_model.decoder
    usual = decoder.conv_in
    decoder.conv_in = torch.nn.Identity()
    try:
        with refused("decoder.conv_in"):
            decoded(vaes[0])
    finally:
        decoder.conv_in = usual


def test_hooks_inside_are_refused(clips):
    layer = clips[0].cond_stage_model.clip_l.transformer.text_model.encoder.layers[0]
    hook = layer.register_forward_hook(lambda *_: None)
    try:
        with refused("layers.0"):
            encode(clips[0])
    finally:
        hook.remove()
    assert_both(clips, encode)


def test_replaced_code_of_comfyui_is_noticed(clips, vaes, monkeypatch):
    import comfy.ldm.modules.attention
    import comfy.sd
    import comfy.sd1_clip

    with monkeypatch.context() as patch, refused("SDClipModel.process_tokens"):
        patch.setattr(comfy.sd1_clip.SDClipModel, "process_tokens", lambda *_: None)
        encode(clips[0])
    with monkeypatch.context() as patch, refused("attention.optimized_attention"):
        patch.setattr(comfy.ldm.modules.attention, "optimized_attention", lambda *_: None)
        encode(clips[0])
    for name in ("decode", "vae_encode_crop_pixels", "vae_output_dtype"):
        if hasattr(comfy.sd.VAE, name):  # releases differ
            with monkeypatch.context() as patch, refused(f"VAE.{name}"):
                patch.setattr(comfy.sd.VAE, name, lambda *_: None)
                decoded(vaes[0])
    assert_both(vaes, decoded)


def test_replaced_code_of_tokenizers_runs_here(clips, monkeypatch):
    import comfy.sd1_clip

    plain = assert_both(clips, encode)
    usual = comfy.sd1_clip.token_weights
    with monkeypatch.context() as patch:
        patch.setattr(
            comfy.sd1_clip, "token_weights", lambda text, weight: usual(text, weight * 1.2)
        )
        assert_differ(assert_both(clips, encode), plain)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("comfy.lora", "calculate_weight"),
        ("comfy.weight_adapter.LoRAAdapter", "calculate_weight"),
        ("comfy.weight_adapter.lora", "tucker_weight_from_conv"),
        ("comfy.model_patcher.ModelPatcher", "patch_weight_to_device"),
    ],
)
def test_replaced_code_that_patches_weights_is_noticed(clips, monkeypatch, owner, name):
    clip = with_lora(clips[0], text_lora(5))
    with monkeypatch.context() as patch, refused(name):
        patch.setattr(f"{owner}.{name}", lambda *_, **__: None)
        assert_both(clips, encode)  # nothing is to be patched
        encode(clip)


def test_replaced_code_that_makes_tiles_is_noticed(vaes, monkeypatch):
    import comfy.utils

    with monkeypatch.context() as patch, refused("comfy.utils.tiled_scale"):
        patch.setattr(comfy.utils, "tiled_scale", lambda *_, **__: None)
        vaes[0].decode_tiled(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(
    "use",
    [
        lambda weight: weight + 1,
        lambda weight: torch.zeros(3).to(weight),
        lambda weight: torch.nn.functional.pad(weight, (1, 1)),
        lambda weight: weight.data,
        lambda weight: weight[0],
        lambda weight: weight.cpu(),
        lambda weight: torch.cat([weight, weight]),
        lambda weight: weight.fill_(0),
        copy.deepcopy,
    ],
)
def test_the_first_touch_of_a_value_says_which_weight(vaes, use):
    with refused("decoder.conv_in.weight", "vae.safetensors"):
        use(vaes[0].first_stage_model.decoder.conv_in.weight)


def test_tensors_can_follow_a_weight_to_its_device(vaes):
    weight = next(vaes[0].first_stage_model.parameters())
    assert torch.zeros(2).to(weight.device, weight.dtype).device == torch.device("cpu")
    assert vaes[0].first_stage_model.to("cpu") is vaes[0].first_stage_model
    usual = weight.dtype
    assert vaes[0].first_stage_model.to("cpu", usual) is vaes[0].first_stage_model
    assert getattr(vaes[0].first_stage_model, _CONVERTING[usual])() is vaes[0].first_stage_model
    with refused("bfloat16"):
        vaes[0].first_stage_model.to(torch.bfloat16)
    with refused("bfloat16"):
        vaes[0].first_stage_model.bfloat16()
    with refused("channels_last"):
        vaes[0].first_stage_model.to(memory_format=torch.channels_last)


def test_other_weights_are_refused_in_one_sentence(clips, vaes):
    inner, encoder = vaes[0].first_stage_model, clips[0].cond_stage_model.clip_l
    with refused("other weights", "vae.safetensors"):
        inner.load_state_dict({name: torch.zeros(1) for name in inner.state_dict()})
    with refused("other weights", "clip_l.safetensors"):
        encoder.load_sd({name: torch.zeros(1) for name in encoder.transformer.state_dict()})
    assert_both(vaes, decoded)
    assert_both(clips, encode)


def test_what_cannot_be_sent_is_refused(vaes):
    with refused("vae.safetensors", "cannot be sent"):
        vaes[0].decode(torch.zeros(1, 4, 4, 4), vae_options={"callback": print})
    assert_both(vaes, decoded)


def test_code_in_patches_is_refused(clips):
    key = "clip_l.transformer.text_model.final_layer_norm.weight"

    class Foreign:
        pass

    clip = clips[0].clone()
    clip.patcher.add_patches({(key, None, lambda weight: weight): (torch.zeros(768),)})
    with refused(key, "function"):
        encode(clip)
    clip = clips[0].clone()
    clip.patcher.patches[key] = [(1.0, Foreign(), 1.0, None, None)]
    clip.patcher.patches_uuid = object()
    with refused("Foreign"):
        encode(clip)
    assert_both(clips, encode)


def test_a_lora_of_a_foreign_kind_is_refused(clips):
    import comfy.weight_adapter

    class Adapter(comfy.weight_adapter.LoRAAdapter):
        pass

    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    adapter = Adapter(set(), (torch.zeros(3072, 4), torch.zeros(4, 768), 2.0, None, None, None))
    clip = clips[0].clone()
    clip.patcher.add_patches({key: adapter})
    with refused("kind of LoRA", "Adapter"):
        encode(clip)


def test_a_bypass_lora_is_refused(clips):
    import comfy.sd

    if not hasattr(comfy.sd, "load_bypass_lora_for_models"):
        pytest.skip("this release of ComfyUI has no bypass LoRA")
    clip = comfy.sd.load_bypass_lora_for_models(None, clips[0], text_lora(5), 1.0, 1.0)[1]
    with refused("bypass"):
        encode(clip)
    assert_both(clips, encode)


def test_weights_of_the_daemon_do_not_go_into_a_local_merge(clips, models, files):
    from comfy_extras.nodes_model_merging import CLIPMergeSimple

    merged = CLIPMergeSimple().merge(clips[1], clips[0], 0.5)[0]
    with refused("clip_l.safetensors"):
        encode(merged)
    assert_both(clips, encode)


class Enlarged(torch.nn.Module):
    """What a node may put in place of a VAE's inner model."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latent[:, :3], scale_factor=8)


def test_another_inner_model_runs_here(vaes):
    others = tuple(copy.copy(vae) for vae in vaes)
    for other in others:
        other.first_stage_model = Enlarged()
    assert_differ(assert_both(others, decoded), assert_both(vaes, decoded))


def test_a_part_that_was_copied_is_refused(clips, vaes):
    encoder = copy.copy(clips[0].cond_stage_model.clip_l)
    encoder.special_tokens = {"start": 5}
    with refused("copy", "clip_l.safetensors"):
        encoder.encode_token_weights(clips[0].tokenize("a cat")["l"])
    with refused("copied the weight"):
        copy.deepcopy(encoder)
    other = copy.copy(vaes[0])
    other.first_stage_model = inner = copy.copy(other.first_stage_model)
    inner._modules = {**inner._modules, "decoder": torch.nn.Identity()}
    with refused("copy", "vae.safetensors"):
        decoded(other)
    with refused("copy", "vae.safetensors"):
        copy.deepcopy(inner)
    assert_both(clips, encode)
    assert_both(vaes, decoded)


def test_copies_are_independent(clips, vaes):
    vae, clip = copy.deepcopy(vaes[0]), copy.deepcopy(with_lora(clips[0], text_lora(5)))
    for module in vae.first_stage_model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = "circular"
    assert vae.first_stage_model is not vaes[0].first_stage_model
    assert_both(vaes, decoded)
    assert_both((clip, with_lora(clips[1], text_lora(5))), encode)
    assert copy.deepcopy(vaes[0].first_stage_model) is not vaes[0].first_stage_model


def test_copies_of_patchers(clips):
    def run(clip: Any) -> Any:
        patched = with_lora(clip, text_lora(5))
        same, other = patched.clone(), patched.clone()
        same.patcher = copy.copy(patched.patcher)
        other.patcher = copy.deepcopy(patched.patcher)
        other.cond_stage_model = other.patcher.model
        assert other.cond_stage_model is not clip.cond_stage_model
        return encode(same), encode(other), encode(clip)

    _, patched, plain = assert_both(clips, run)
    assert_differ(patched, plain)


def with_own_patcher(clip: Any) -> Any:
    """As nodes do that know ComfyUI's model patcher only."""
    from comfy.model_patcher import ModelPatcher

    made = clip.clone()
    devices = (clip.patcher.load_device, clip.patcher.offload_device)
    made.patcher = ModelPatcher(clip.cond_stage_model, *devices)
    return made


def test_a_patcher_of_a_nodes_own_is_refused(clips):
    with refused("clip_l.safetensors", "used the weight"):
        encode(with_own_patcher(clips[0]))
    assert_both(clips, encode)


def test_callbacks_are_called_when_other_weights_are_loaded(clips):
    from comfy.patcher_extension import CallbacksMP

    counts = []
    for clip in clips:
        loads: list[Any] = []
        listening = clip.clone()
        listening.patcher.add_callback(CallbacksMP.ON_LOAD, lambda *told, to=loads: to.append(told))
        found = []
        for user in (clip, listening, with_lora(listening, text_lora(3)), listening, listening):
            encode(user)
            found.append(len(loads))
        counts.append(found)
    assert counts[0] == counts[1] == [0, 0, 1, 2, 2]


def test_pickling_says_what_to_do_instead(clips, vaes):
    for thing in (clips[0], vaes[0], vaes[0].patcher):
        with pytest.raises(TypeError, match=r"in the daemon.*cannot be pickled\. Save"):
            pickle.dumps(thing)


def test_a_vae_for_which_a_device_was_chosen_is_remote_all_the_same(vaes, calls):
    try:
        from comfy_extras.nodes_multigpu import SelectVAEDeviceNode
    except ImportError:
        pytest.skip("this release of ComfyUI has no nodes for choosing devices")
    chosen = tuple(SelectVAEDeviceNode.execute(vae, "default").args[0] for vae in vaes)
    before = len(calls.made)
    assert_both(chosen, decoded)
    assert len(calls.made) == before + 1
    assert_both(vaes, decoded)


def test_choosing_a_device_moves_results_only(clips):
    from luna_collection.luna_daemon.proxy.patcher import SkeletonPatcher

    if not hasattr(type(clips[1].patcher), "deepclone_multigpu"):
        pytest.skip("this release of ComfyUI has no nodes for choosing devices")
    from comfy_extras.nodes_multigpu import SelectCLIPDeviceNode

    chosen = SelectCLIPDeviceNode.execute(clips[0], "cpu").args[0]
    assert isinstance(chosen.patcher, SkeletonPatcher)
    assert_both((chosen, clips[1]), encode)
    other = clips[0].patcher.deepclone_multigpu(new_load_device=torch.device("meta"))
    assert other.load_device == torch.device("meta")
    assert other.model is clips[0].patcher.model

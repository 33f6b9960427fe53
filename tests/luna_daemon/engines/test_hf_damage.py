"""Folders that are damaged, incomplete or of another kind: each is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError

TEXT, VAE = "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"
Weights = dict[str, torch.Tensor]
Load = Callable[..., Any]


FINAL_NORM = "text_model.final_layer_norm.weight"


def drop(weights: Weights) -> None:
    del weights[FINAL_NORM]


def drop_many(weights: Weights) -> None:
    for name in [name for name in weights if ".mlp." in name]:
        del weights[name]


def add(weights: Weights) -> None:
    weights["text_model.encoder.layers.5.mlp.fc1.weight"] = torch.zeros(2)


def reshape(weights: Weights) -> None:
    weights[FINAL_NORM] = torch.ones(49)


def double(weights: Weights) -> None:
    weights["final_layer_norm.weight"] = weights[FINAL_NORM].clone()


def quantise(weights: Weights) -> None:
    weights[FINAL_NORM] = weights[FINAL_NORM].to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (drop, "lacks 1 weight that config.json asks for: 'final_layer_norm.weight'."),
        (
            drop_many,
            r"lacks 20 weights that config.json asks for: 'encoder.layers.0.mlp.fc1.bias', .*, …\.",
        ),
        (
            add,
            "holds 1 weight that config.json does not ask for: 'encoder.layers.5.mlp.fc1.weight'",
        ),
        (reshape, "holds 1 weight of another shape than"),
        (double, "holds 'final_layer_norm.weight' under two names"),
        (quantise, "weights of the type F8_E4M3"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    load: Load,
    repo: Path,
    tmp_path: Path,
    change: Callable[[Weights], None],
    why: str,
    change_weights: Any,
) -> None:
    change_weights(repo / TEXT, change)
    with pytest.raises(BadRequestError, match=why) as caught:
        load(repo / "text_encoder", "clip_l")
    assert "'repo/text_encoder/model.safetensors'" in caught.value.message
    assert str(tmp_path) not in str(caught.value)


def drop_bias(weights: Weights) -> None:
    del weights["decoder.conv_out.bias"]


def add_bias(weights: Weights) -> None:
    weights["decoder.conv_out_2.bias"] = torch.zeros(3)


def reshape_bias(weights: Weights) -> None:
    weights["decoder.conv_out.bias"] = torch.zeros(4)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (drop_bias, "lacks 1 weight that config.json asks for: 'decoder.conv_out.bias'"),
        (add_bias, "holds 1 weight that config.json does not ask for: 'decoder.conv_out_2.bias'"),
        (reshape_bias, "holds 1 weight of another shape than"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(
    load: Load, repo: Path, change: Callable[[Weights], None], why: str, change_weights: Any
) -> None:
    change_weights(repo / VAE, change)
    with pytest.raises(BadRequestError, match=why):
        load(repo / "vae", "vae")


@pytest.mark.parametrize("length", [0, 5, 8, 300, -1])
def test_a_truncated_file_is_refused(load: Load, repo: Path, length: int) -> None:
    file = repo / TEXT
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(BadRequestError, match=r"'repo/text_encoder/model\.safetensors' is damaged"):
        load(repo / "text_encoder", "clip_l")


def test_a_file_that_is_a_web_page_is_refused(load: Load, repo: Path) -> None:
    (repo / VAE).write_bytes(b"<!DOCTYPE html><html>404: not found</html>")
    with pytest.raises(BadRequestError, match="is a web page, not a model"):
        load(repo / "vae", "vae")


@pytest.mark.parametrize(
    ("missing", "role"),
    [
        (TEXT, "clip_l"),
        (VAE, "vae"),
        ("text_encoder/config.json", "clip_l"),
        ("tokenizer/vocab.json", "clip_l"),
        ("tokenizer/merges.txt", "clip_l"),
    ],
)
def test_a_missing_file_is_named(load: Load, repo: Path, missing: str, role: str) -> None:
    (repo / missing).unlink()
    with pytest.raises(NotFoundError, match=re.escape(f"There is no file 'repo/{missing}'")):
        load(repo / ("vae" if role == "vae" else "text_encoder"), role)


def test_a_missing_folder_is_named(load: Load, repo: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no folder 'repo/text_encoder_3'"):
        load(repo / "text_encoder_3", "clip_l")


def test_a_single_file_is_refused(load: Load, repo: Path) -> None:
    with pytest.raises(BadRequestError, match="is a single file"):
        load(repo / VAE, "vae")


@pytest.mark.parametrize(
    ("folder", "role", "found", "wanted"),
    [
        ("vae", "clip_l", "AutoencoderKL", "CLIPTextModel"),
        ("text_encoder", "vae", "CLIPTextModel", "AutoencoderKL"),
        ("text_encoder", "clip_g", "CLIPTextModel", "CLIPTextModelWithProjection"),
        ("text_encoder_2", "clip_l", "CLIPTextModelWithProjection", "CLIPTextModel"),
    ],
)
def test_a_wrong_role_is_named(
    load: Load, sdxl: Path, folder: str, role: str, found: str, wanted: str
) -> None:
    expected = (
        f"'tiny-sdxl/{folder}' is of the class {found}, but {role} has to be of the class {wanted}."
    )
    with pytest.raises(BadRequestError, match=re.escape(expected)):
        load(sdxl / folder, role)


def test_an_unknown_class_is_named(load: Load, repo: Path, change_json: Any) -> None:
    change_json(repo / "text_encoder" / "config.json", architectures=["T5EncoderModel"])
    with pytest.raises(BadRequestError, match="is of the class T5EncoderModel, but clip_l"):
        load(repo / "text_encoder", "clip_l")


def test_an_unknown_role_is_refused(load: Load, sd15: Path) -> None:
    with pytest.raises(BadRequestError, match="no models for 't5'; it knows clip_l, clip_g, vae"):
        load(sd15 / "text_encoder", "t5")


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "wide"},
        {"hidden_size": 49},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"hidden_act": "no such function"},
        {"num_hidden_layers": None},
        {"vocab_size": -4},
        {"hidden_size": [1, 2]},
    ],
    ids=str,
)
def test_a_senseless_text_configuration_is_refused(
    load: Load, repo: Path, values: dict[str, object], change_json: Any
) -> None:
    change_json(repo / "text_encoder" / "config.json", **values)
    with pytest.raises(BadRequestError, match="'repo/text_encoder/"):
        load(repo / "text_encoder", "clip_l")


@pytest.mark.parametrize(
    "values",
    [
        {"block_out_channels": "many"},
        {"norm_num_groups": 0},
        {"norm_num_groups": 7},
        {"latent_channels": -1},
        {"down_block_types": ["NoSuchBlock"] * 4},
        {"act_fn": "no such function"},
        {"in_channels": 4},
    ],
    ids=str,
)
def test_a_senseless_vae_configuration_is_refused(
    load: Load, repo: Path, values: dict[str, object], change_json: Any
) -> None:
    change_json(repo / "vae" / "config.json", **values)
    with pytest.raises(BadRequestError, match="'repo/vae/"):
        load(repo / "vae", "vae")


def test_a_vae_of_other_channels_is_refused(
    load: Load, repo: Path, change_weights: Any, change_json: Any
) -> None:
    change_json(repo / "vae" / "config.json", in_channels=4, out_channels=4)

    def widen(weights: Weights) -> None:
        weights["encoder.conv_in.weight"] = torch.zeros(8, 4, 3, 3)
        weights["decoder.conv_out.weight"] = torch.zeros(4, 8, 3, 3)
        weights["decoder.conv_out.bias"] = torch.zeros(4)

    change_weights(repo / VAE, widen)
    with pytest.raises(BadRequestError, match="'repo/vae' takes images of 4 channels"):
        load(repo / "vae", "vae")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '"a"', "[" * 100_000])
def test_a_damaged_configuration_is_refused(load: Load, repo: Path, text: str) -> None:
    (repo / "vae" / "config.json").write_text(text)
    with pytest.raises(BadRequestError, match=r"'repo/vae/config\.json' is damaged"):
        load(repo / "vae", "vae")


def test_private_keys_of_a_configuration_are_not_followed(
    load: Load, repo: Path, change_json: Any
) -> None:
    change_json(repo / "text_encoder" / "config.json", _attn_implementation="someone/some-kernel")
    module = load(repo / "text_encoder", "clip_l").model.module
    assert module.config._attn_implementation == "sdpa"

"""Folders that load, and what is in memory then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError, OutOfMemoryError
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

TEXT, VAE = "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"
Weights = dict[str, torch.Tensor]
Load = Callable[..., Any]


def assert_same_weights(module: torch.nn.Module, reference: torch.nn.Module) -> None:
    ours, theirs = dict(module.named_parameters()), dict(reference.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(
        torch.equal(a, b) for a, b in zip(module.buffers(), reference.buffers(), strict=True)
    )


@pytest.mark.parametrize(
    ("role", "folder", "kind"),
    [
        ("clip_l", "text_encoder", CLIPTextModel),
        ("clip_g", "text_encoder_2", CLIPTextModelWithProjection),
        ("vae", "vae", AutoencoderKL),
    ],
)
def test_weights_are_those_that_the_libraries_load(
    load: Load, sdxl: Path, role: str, folder: str, kind: Any
) -> None:
    resident = load(sdxl / folder, role)
    module = resident.model.module
    options = {"low_cpu_mem_usage": False} if role == "vae" else {}
    assert_same_weights(module, kind.from_pretrained(sdxl / folder, **options))
    assert not module.training
    assert not any(weight.requires_grad for weight in module.parameters())
    size = sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
    assert resident.nbytes == size


def test_loading_says_nothing_on_the_terminal(
    load: Load, sdxl: Path, repo: Path, capfd: pytest.CaptureFixture[str], change_json: Any
) -> None:
    change_json(repo / "vae" / "config.json", unknown_option=1)
    load(repo / "vae", "vae")
    load(sdxl / "text_encoder", "clip_l").model.tokenizer.encode("rain " * 200)
    load(sdxl / "text_encoder_2", "clip_g")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_names_without_prefix_load_alike(
    load: Load, repo: Path, sd15: Path, change_weights: Any
) -> None:
    def strip(weights: Weights) -> None:
        for name in list(weights):
            weights[name.removeprefix("text_model.")] = weights.pop(name)

    change_weights(repo / TEXT, strip)
    ours = load(repo / "text_encoder", "clip_l").model.module
    assert_same_weights(ours, load(sd15 / "text_encoder", "clip_l").model.module)


def test_old_names_of_the_attention_load_alike(
    load: Load, repo: Path, sd15: Path, change_weights: Any
) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(weights: Weights) -> None:
        for name in [name for name in weights if ".attentions." in name]:
            for new, before in old.items():
                if f".{new}." in name:
                    weights[name.replace(f".{new}.", f".{before}.")] = weights.pop(name)

    change_weights(repo / VAE, rename)
    assert any(".proj_attn." in name for name in load_file(repo / VAE))
    ours = load(repo / "vae", "vae").model.module
    assert_same_weights(ours, load(sd15 / "vae", "vae").model.module)


def test_position_ids_of_old_files_are_allowed(
    load: Load, repo: Path, sd15: Path, change_weights: Any
) -> None:
    ids = {"text_model.embeddings.position_ids": torch.arange(77).expand(1, -1).contiguous()}
    change_weights(repo / TEXT, lambda weights: weights.update(ids))
    ours = load(repo / "text_encoder", "clip_l").model.module
    assert_same_weights(ours, load(sd15 / "text_encoder", "clip_l").model.module)


def split(file: Path, shards: list[str]) -> Path:
    weights = load_file(file)
    names = sorted(weights)
    parts = {shard: names[i :: len(shards)] for i, shard in enumerate(shards)}
    for shard, part in parts.items():
        save_file({name: weights[name].clone() for name in part}, file.parent / shard)
    index = file.with_name(f"{file.name}.index.json")
    table = {name: shard for shard, part in parts.items() for name in part}
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    file.unlink()
    return index


@pytest.mark.parametrize(("file", "role"), [(TEXT, "clip_l"), (VAE, "vae")])
def test_shards_load_alike(load: Load, repo: Path, sd15: Path, file: str, role: str) -> None:
    split(repo / file, ["a-00001.safetensors", "a-00002.safetensors"])
    folder = file.split("/")[0]
    ours = load(repo / folder, role).model.module
    assert_same_weights(ours, load(sd15 / folder, role).model.module)


def test_a_missing_shard_is_named(load: Load, repo: Path) -> None:
    split(repo / TEXT, ["a.safetensors", "b.safetensors"])
    (repo / "text_encoder" / "b.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"no file 'repo/text_encoder/b\.safetensors'"):
        load(repo / "text_encoder", "clip_l")


def test_a_tensor_in_two_shards_is_refused(load: Load, repo: Path) -> None:
    split(repo / TEXT, ["a.safetensors", "b.safetensors"])
    first, second = (repo / "text_encoder" / name for name in ("a.safetensors", "b.safetensors"))
    save_file({**load_file(first), **load_file(second)}, second)
    with pytest.raises(BadRequestError, match="is in two of its files"):
        load(repo / "text_encoder", "clip_l")


@pytest.mark.parametrize("table", [{}, None, {"a": 1}, {"a": "../../vae/x"}, {"a": "/etc/x"}])
def test_an_index_that_points_elsewhere_is_refused(load: Load, repo: Path, table: object) -> None:
    index = split(repo / TEXT, ["a.safetensors"])
    index.write_text(json.dumps({"weight_map": table}))
    with pytest.raises(BadRequestError, match=r"index\.json' is damaged"):
        load(repo / "text_encoder", "clip_l")


@pytest.mark.parametrize(
    ("precision", "stored", "expected"),
    [
        ("fp32", torch.float16, torch.float32),
        ("fp16", torch.float32, torch.float16),
        ("bf16", torch.float32, torch.bfloat16),
        ("file", torch.float16, torch.float16),
        ("file", torch.bfloat16, torch.bfloat16),
    ],
)
def test_precision_is_as_asked(
    load: Load,
    repo: Path,
    precision: str,
    stored: torch.dtype,
    expected: torch.dtype,
    change_weights: Any,
) -> None:
    def convert(weights: Weights) -> None:
        for name in weights:
            weights[name] = weights[name].to(stored)

    change_weights(repo / TEXT, convert)
    module = load(repo / "text_encoder", "clip_l", precision).model.module
    assert {weight.dtype for weight in module.parameters()} == {expected}


def test_a_file_of_several_types_is_held_in_one_that_fits_all(
    load: Load, repo: Path, change_weights: Any
) -> None:
    def convert(weights: Weights) -> None:
        for name in list(weights)[::2]:
            weights[name] = weights[name].half()

    change_weights(repo / TEXT, convert)
    module = load(repo / "text_encoder", "clip_l", "file").model.module
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}


def test_an_unknown_precision_is_refused(load: Load, sd15: Path) -> None:
    with pytest.raises(BadRequestError, match="no precision 'fp4'"):
        load(sd15 / "vae", "vae", "fp4")


def test_rewriting_the_file_does_not_change_a_loaded_model(load: Load, repo: Path) -> None:
    module = load(repo / "vae", "vae").model.module
    before = [weight.clone() for weight in module.parameters()]
    size = (repo / VAE).stat().st_size
    with (repo / VAE).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\x55" * (size // 2))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("padding", range(0, 64, 8))
def test_results_do_not_depend_on_where_weights_lie_in_the_file(
    load: Load, sdxl: Path, tmp_path: Path, padding: int
) -> None:
    """The text projection of one text is a matrix-vector product, which rounds by address."""
    repo = Path(shutil.copytree(sdxl, tmp_path / "repo"))
    file = repo / "text_encoder_2" / "model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "padding": "x" * padding})
    ids = torch.arange(77)[None]
    pooled = [
        load(r / "text_encoder_2", "clip_g").model.module(ids).text_embeds for r in (repo, sdxl)
    ]
    assert torch.equal(*pooled)


def test_no_room_for_a_model_is_said(
    load: Load, sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = torch.empty

    def fail(*args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs["device"] == "cpu":
            raise torch.OutOfMemoryError("no")
        return allocate(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(OutOfMemoryError, match="Loading 'tiny-sd15/vae' needs more memory"):
        load(sd15 / "vae", "vae")

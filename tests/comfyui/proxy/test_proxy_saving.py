"""ComfyUI's save nodes write the weights that the daemon holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_same, decoded, encode, with_lora
from .conftest import open_pair, run_daemon, stock_vae


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a save node, which writes into a folder."""
    import comfy.cli_args
    import folder_paths

    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)

    def run(node: Any, model: Any, folder: Path) -> None:
        monkeypatch.setattr(folder_paths, "output_directory", str(folder))
        saver = node()
        saver.output_dir = str(folder)
        saver.save(model, "it")

    return run


@pytest.fixture
def saved(tmp_path: Path, saving: Any) -> Any:
    """Return a function that runs a save node and reads what it wrote."""
    from safetensors.torch import load_file

    def run(node: Any, model: Any, name: str) -> dict[str, torch.Tensor]:
        saving(node, model, tmp_path / name)
        (file,) = (tmp_path / name).glob("**/*.safetensors")
        return load_file(file)

    return run


def test_vae_save(saved, vaes):
    from comfy_extras.nodes_model_merging import VAESave

    ours, stock = (saved(VAESave, vae, name) for vae, name in zip(vaes, "ab", strict=True))
    assert ours.keys() == stock.keys()
    assert_same(ours, stock)


def test_clip_save_with_a_lora(saved, clips):
    from comfy_extras.nodes_model_merging import CLIPSave

    ours, stock = (
        saved(CLIPSave, with_lora(clip, text_lora(5)), name)
        for clip, name in zip(clips, "ab", strict=True)
    )
    assert ours.keys() == stock.keys()
    assert_same(ours, stock)


def test_what_is_saved_in_pieces_is_whole(vaes, monkeypatch):
    from luna_collection.luna_daemon.proxy import saving

    monkeypatch.setattr(saving, "PIECE_NAMES", 30)
    monkeypatch.setattr(saving, "PIECE_BYTES", 20 * 1024**2)
    assert_same(vaes[0].get_sd(), vaes[1].get_sd())


def test_clip_save_writes_a_file_for_each_encoder(tmp_path, saving, sdxl):
    from comfy_extras.nodes_model_merging import CLIPSave
    from safetensors.torch import load_file

    lora = text_lora(5, prefix="lora_te1", layers=1)
    for clip, name in zip(sdxl, "ab", strict=True):
        saving(CLIPSave, with_lora(clip, lora), tmp_path / name)
    ours, stock = (sorted((tmp_path / name).glob("**/*.safetensors")) for name in "ab")
    assert len(ours) == len(stock) == 2
    for mine, other in zip(ours, stock, strict=True):
        assert mine.name == other.name
        assert_same(load_file(mine), load_file(other))


def test_what_was_saved_works_in_plain_comfyui(tmp_path, saving, clips, vaes):
    import comfy.sd
    from comfy_extras.nodes_model_merging import CLIPSave, VAESave

    saving(CLIPSave, with_lora(clips[0], text_lora(5)), tmp_path / "clip")
    saving(VAESave, vaes[0], tmp_path / "vae")
    clip, vae = (next((tmp_path / n).glob("**/*.safetensors")) for n in ("clip", "vae"))
    patched = with_lora(clips[1], text_lora(5))
    assert_same(encode(comfy.sd.load_clip([str(clip)])), encode(patched))
    assert_same(decoded(stock_vae(vae)), decoded(vaes[1]))


def test_a_daemon_that_holds_fp32_saves_what_stock_saves(saving, comfyui, files, folder, tmp_path):
    from comfy_extras.nodes_model_merging import CLIPSave
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.progress import comfyui_client
    from safetensors.torch import load_file

    runtime = tmp_path / "daemon"
    runtime.mkdir()
    with (
        run_daemon(comfyui.root, folder, runtime, "--clip-precision=fp32") as daemon,
        comfyui_client(daemon) as client,
    ):
        pair = open_pair(DaemonModels(client, "held in fp32", "SD1.5"), files("clip_l"))
        assert_both(pair, encode)
        (model,) = client.status()["devices"]["cpu"]["workers"][0]["models"]
        assert model["precision"] == "float32"
        for clip, name in zip(pair, "ab", strict=True):
            saving(CLIPSave, with_lora(clip, text_lora(5)), tmp_path / name)
    ours, stock = (load_file(next((tmp_path / n).glob("**/*.safetensors"))) for n in "ab")
    assert ours.keys() == stock.keys()
    assert_same(ours, stock)

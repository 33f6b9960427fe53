"""ComfyUI's save nodes write the weights that the daemon holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_same, with_lora


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a save node and reads what it wrote."""
    import comfy.cli_args
    import folder_paths
    from safetensors.torch import load_file

    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)

    def run(node: Any, model: Any, name: str) -> dict[str, torch.Tensor]:
        folder = tmp_path / name
        monkeypatch.setattr(folder_paths, "output_directory", str(folder))
        saver = node()
        saver.output_dir = str(folder)
        saver.save(model, "it")
        (file,) = folder.glob("**/*.safetensors")
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

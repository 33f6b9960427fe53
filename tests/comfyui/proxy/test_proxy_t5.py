"""Families with a T5, which is shrunk for this: whole, in fp8, and with patches.

ComfyUI reads the sizes of a T5 from a file of its own. The daemon gets a tree in which that file is another
one; this process gives the same sizes as an option of the loader.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_command.comfyui import ComfyUI

from ..engine import random_weights
from .comparing import assert_both, assert_differ, encode
from .conftest import run_daemon

SIZES = {"d_model": 128, "num_layers": 2, "num_heads": 2, "d_kv": 64}
CONFIG = "t5_config_xxl.json"
# ComfyUI tells a T5-XXL by this weight, which a T5 of two layers does not have.
TELLTALE = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"


@pytest.fixture(scope="module")
def narrow_models(
    comfyui: ComfyUI, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return a workflow on a daemon whose ComfyUI has a narrow T5."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    tree = tmp_path_factory.mktemp("comfyui")
    try:
        link_tree(comfyui.root, tree)
    except OSError as error:  # Windows, for people who may not make links
        pytest.skip(f"no links can be made here: {error}")
    with (
        run_daemon(tree, folder, tmp_path_factory.mktemp("narrow")) as config,
        comfyui_client(config) as client,
    ):
        yield DaemonModels(client, "T5", "Flux")


def link_tree(root: Path, tree: Path) -> None:
    """Make a ComfyUI of links, but for the text encoders that read the sizes."""
    inside = tree / "comfy" / "text_encoders"
    inside.mkdir(parents=True)
    own = root / "comfy" / "text_encoders"
    for source, target in ((root, tree), (root / "comfy", tree / "comfy"), (own, inside)):
        for path in source.iterdir():
            if not (target / path.name).exists() and path.name != "__pycache__":
                (target / path.name).symlink_to(path)
    for name in ("sd3_clip.py", CONFIG):  # it looks for the sizes where its own file really is
        (inside / name).unlink()
        shutil.copy(own / name, inside / name)
    sizes = json.loads((own / CONFIG).read_text("utf-8"))
    (inside / CONFIG).write_text(json.dumps({**sizes, **SIZES}), encoding="utf-8")


@pytest.fixture(scope="module")
def t5_file(comfy_is_there: None, folder: Path) -> Callable[[str], Path]:
    """Return the file of a narrow T5: "fp16", "bf16", or "fp8" with ComfyUI's own markers."""

    def make(kind: str) -> Path:
        path = folder / f"t5_{kind}.safetensors"
        if not path.exists():
            random_weights.save(t5_weights(kind), path)
        return path

    return make


def t5_weights(kind: str) -> random_weights.Weights:
    import comfy.ops
    import comfy.sd
    import comfy.text_encoders.t5

    file = Path(comfy.sd.__file__).parent / "text_encoders" / CONFIG
    config = {**json.loads(file.read_text("utf-8")), **SIZES}
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    module = comfy.text_encoders.t5.T5(config, dtype, "meta", comfy.ops.manual_cast)
    weights = random_weights.random_weights(module, dtype, 21, 0.05)
    weights[TELLTALE] = torch.zeros(10240, 8, dtype=dtype)
    return in_fp8(weights) if kind == "fp8" else weights


def in_fp8(weights: random_weights.Weights) -> random_weights.Weights:
    """Return the linear layers' weights in eight bits, each with a scale and a marker."""
    marker = json.dumps({"format": "float8_e4m3fn"}).encode()
    found = dict(weights)
    for name, tensor in weights.items():
        layer = name.removesuffix(".weight")
        if ".layer." in name and tensor.dim() == 2 and "bias" not in name and name != TELLTALE:
            scale = tensor.abs().max().float() / 448
            found[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            found[f"{layer}.weight_scale"] = scale
            found[f"{layer}.comfy_quant"] = torch.frombuffer(bytearray(marker), dtype=torch.uint8)
    return found


@pytest.fixture
def open_narrow(narrow_models: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return text encoders in the daemon and stock ones."""
    import comfy.sd
    from luna_collection.luna_daemon.proxy import builders
    from luna_collection.luna_daemon.proxy.opening import open_clip

    usual = builders._te_options
    narrow = {"t5xxl_model_config": SIZES}
    monkeypatch.setattr(builders, "_te_options", lambda dtype: {**usual(dtype), **narrow})

    def open_both(clip_type: str, *files: Path) -> tuple[Any, Any]:
        stock = comfy.sd.load_clip(
            [str(file) for file in files],
            clip_type=getattr(comfy.sd.CLIPType, clip_type),
            model_options=dict(narrow),
        )
        return open_clip(narrow_models, files, clip_type), stock

    return open_both


@pytest.mark.parametrize("kind", ["fp16", "bf16", "fp8"])
def test_flux(open_narrow, files, t5_file, kind):
    from comfy_extras.nodes_flux import CLIPTextEncodeFlux

    pair = open_narrow("FLUX", files("clip_l"), t5_file(kind))
    ours, stock = (
        {name: (w.shape, w.dtype) for name, w in clip.cond_stage_model.state_dict().items()}
        for clip in pair
    )
    assert ours == stock
    plain = assert_both(pair, encode)
    assert_both(pair, lambda clip: CLIPTextEncodeFlux.execute(clip, "a cat", "a hat", 3.5).args[0])
    patched = assert_both(pair, lambda clip: encode(with_t5_patch(clip)))
    assert_differ(plain, patched)
    assert_both(pair, encode)


def test_sd3_without_its_t5(open_narrow, files):
    """The other encoders' outputs are padded to a T5's real width, so a narrow one does not fit."""
    from comfy_extras.nodes_sd3 import CLIPTextEncodeSD3

    pair = open_narrow("SD3", files("clip_l"))
    assert_both(pair, encode)
    texts = ("a cat", "a hat", "a long (text:1.2) about a cat", "none")
    assert_both(pair, lambda clip: CLIPTextEncodeSD3.execute(clip, *texts).args[0])


@pytest.mark.parametrize("clip_type", ["PIXART", "LTXV", "MOCHI", "CHROMA"])
def test_other_families(open_narrow, t5_file, clip_type):
    pair = open_narrow(clip_type, t5_file("fp16"))
    assert_both(pair, encode)


def with_t5_patch(clip: Any) -> Any:
    """Patch a layer of the T5 as LoRA loaders do."""
    import comfy.weight_adapter

    generator = torch.Generator().manual_seed(2)
    up, down = (torch.randn(shape, generator=generator) * 0.2 for shape in ((128, 4), (4, 128)))
    adapter = comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, None, None))
    patched = clip.clone()
    name = "t5xxl.transformer.encoder.block.1.layer.0.SelfAttention.q.weight"
    assert patched.add_patches({name: adapter}, 0.8)
    return patched

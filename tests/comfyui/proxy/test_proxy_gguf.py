"""The pack ComfyUI-GGUF, whose text encoders stay in this process, beside ours.

It is looked for where COMFYUI_GGUF_PATH says, and among ComfyUI's custom nodes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from luna_command.comfyui import ComfyUI

from . import narrow_encoders
from .comparing import assert_both, assert_differ, assert_same, encode
from .test_proxy_t5 import with_t5_patch

PACK = "ComfyUI-GGUF"
# What llama.cpp calls the parts of a T5.
NAMES = {
    "encoder.block.": "enc.blk.",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.SelfAttention.": "attn_",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.1.layer_norm": "ffn_norm",
    "encoder.final_layer_norm": "enc.output_norm",
    "shared.": "token_embd.",
}


@pytest.fixture(scope="module")
def pack(comfyui: ComfyUI) -> ModuleType:
    named = os.environ.get("COMFYUI_GGUF_PATH")
    folder = Path(named) if named else comfyui.root / "custom_nodes" / PACK
    if not (folder / "__init__.py").is_file():
        pytest.skip(f"{PACK} is not there ({folder})")
    pytest.importorskip("gguf")
    spec = importlib.util.spec_from_file_location("gguf_pack", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gguf_pack"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def t5_gguf(pack: ModuleType, folder: Path) -> Path:
    """Return a narrow T5 whose linear layers are stored in eight bits, as llama.cpp does it."""
    import gguf

    path = folder / "t5.gguf"
    writer = gguf.GGUFWriter(path, "t5encoder")
    for name, tensor in narrow_encoders.t5_weights("fp16").items():
        stored = name
        for ours, theirs in NAMES.items():
            stored = stored.replace(ours, theirs)
        values = tensor.float().numpy()
        if tensor.dim() == 2 and tensor.shape[1] % 32 == 0 and "token_embd" not in stored:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, values if tensor.dim() == 1 else tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_its_text_encoders_work_beside_ours(pack, t5_gguf, narrow_files, open_narrow, monkeypatch):
    import comfy.sd

    usual = comfy.sd.load_text_encoder_state_dicts

    def narrow(*args: Any, model_options: dict[str, Any], **options: Any) -> Any:
        model_options = {**model_options, **narrow_encoders.OPTIONS}
        return usual(*args, model_options=model_options, **options)

    loader = pack.NODE_CLASS_MAPPINGS["DualCLIPLoaderGGUF"]()
    files = [str(narrow_files("clip_l")), str(t5_gguf)]
    with monkeypatch.context() as patch:
        patch.setattr(comfy.sd, "load_text_encoder_state_dicts", narrow)
        theirs = loader.load_patcher(files, comfy.sd.CLIPType.FLUX, loader.load_data(files))
    before = encode(theirs)
    pair = open_narrow("FLUX", "clip_l", "t5 fp16")
    assert_differ(assert_both(pair, encode), before)
    patched = encode(with_t5_patch(theirs))
    assert_differ(patched, before)
    assert_both(pair, lambda clip: encode(with_t5_patch(clip)))
    assert_same(encode(theirs), before)
    assert all(
        torch.isfinite(tensor).all() for tensor in theirs.cond_stage_model.clip_l.parameters()
    )


def test_a_gguf_file_is_left_to_the_pack(models, t5_gguf, files):
    from luna_collection.luna_daemon.proxy.errors import NotASkeletonError
    from luna_collection.luna_daemon.proxy.opening import open_clip

    with pytest.raises(NotASkeletonError, match=r"'t5\.gguf' is not a safetensors file"):
        open_clip(models, [files("clip_l"), t5_gguf], "FLUX")

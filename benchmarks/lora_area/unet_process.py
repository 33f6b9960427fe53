"""A process of ComfyUI's interpreter with SD1.5's U-Net, which puts LoRAs into its weights.

`COMFYUI`; told in JSON lines: `{"kind": "stock"|"exact"|"fast", "count": N}` patches with new strengths and
tells the CPU time; `{"check": N}` tells whether stock and exact weights are equal.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...luna_daemon.engines.comfy.boot import boot
from .lora_process import EXACT, FAST, KINDS, STOCK

CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "channel_mult": (1, 2, 4, 4),
    "num_heads": 8,
    "use_spatial_transformer": True,
    "context_dim": 768,
    "legacy": False,
}


def main(arguments: Sequence[str]) -> int:
    """Serve until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever ComfyUI prints is no answer
    torch.set_num_threads(1)
    boot(Path(arguments[0]), "cpu", {})
    with torch.inference_mode():
        model = PatchedUNet()
        _tell(answers, ready=True)
        while line := sys.stdin.readline():
            order = json.loads(line)
            if "check" in order:
                _tell(answers, equal=model.is_equal(order["check"]))
            else:
                _tell(answers, cpu_s=model.patch(**order))
    return 0


class PatchedUNet:
    """A U-Net, LoRAs for it, and the clone whose strengths are in its weights."""

    def __init__(self) -> None:
        from .random_loras import UNET_LAYERS, Patches, random_loras

        self._patcher = _unet()
        self._names = [
            n for n, _ in self._patcher.model.named_parameters() if UNET_LAYERS.search(n)
        ]
        self._loras: dict[str, list[Patches]] = {kind: [] for kind in KINDS}
        self._dice = random.Random(1)
        self._make = lambda count: random_loras(
            self._patcher.model.state_dict(), UNET_LAYERS, count
        )
        self._loaded: Any = None

    def patch(self, kind: str, count: int) -> float:
        """Put LoRAs with new strengths into the weights; return the CPU seconds."""
        return self._patch(kind, [self._dice.uniform(0.2, 1.2) for _ in range(count)])

    def is_equal(self, count: int) -> bool:
        """Are the weights with stock adapters those with exact ones?"""
        strengths = [self._dice.uniform(0.2, 1.2) for _ in range(count)]
        self._patch(STOCK, strengths)
        found = dict(self._patcher.model.named_parameters())
        self._patch(EXACT, strengths)
        now = dict(self._patcher.model.named_parameters())
        return all(
            found[name] is not now[name] and torch.equal(found[name], now[name])
            for name in self._names
        )

    def _patch(self, kind: str, strengths: Sequence[float]) -> float:
        import comfy.model_management

        from ...nodes.lora.adapters import free_after_loading

        clone = self._patcher.clone()
        for lora, strength in zip(self._loras_of(kind, len(strengths)), strengths, strict=True):
            clone.add_patches(lora, strength)
        if kind != STOCK:
            free_after_loading(clone)
        started = time.process_time()
        comfy.model_management.load_models_gpu([clone])
        cost = time.process_time() - started
        self._loaded = clone
        return cost

    def _loras_of(self, kind: str, count: int) -> list[Any]:
        from ...nodes.lora.adapters import adapters_for

        if len(self._loras[STOCK]) != count:
            loras = self._make(count)
            self._loras = {
                STOCK: loras,
                EXACT: [adapters_for(lora) for lora in loras],
                FAST: [adapters_for(lora, fast=True) for lora in loras],
            }
        return self._loras[kind]


def _unet() -> Any:
    """Return a patcher of SD1.5's U-Net with random weights in half precision."""
    import comfy.sd
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from ..comfyui_area.model_files import random_weights

    with torch.device("meta"):
        module = UNetModel(**CONFIG)
    return comfy.sd.load_diffusion_model_state_dict(random_weights(module))


def _tell(answers: Any, **event: Any) -> None:
    answers.write(json.dumps(event) + "\n")
    answers.flush()

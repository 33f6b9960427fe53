"""A process of ComfyUI's interpreter that encodes with LoRAs. See comfyui_area/comfy_process.py.

`{"do": "loras", "count": N, "kind": "stock"|"exact"|"fast"}` makes LoRAs for the open text encoder;
`{"do": "clones", "strengths": [[…]…]}` makes clones of it with these strengths; `{"do": "encode_clones"}` encodes
a text with each; `{"do": "encode_again", "calls": N}` encodes new texts with the last one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..comfyui_area import comfy_process
from ..comfyui_area.comfy_process import ComfyProcess, digest_of, encoded

KINDS = STOCK, EXACT, FAST = "stock", "exact", "fast"


def main(arguments: Sequence[str]) -> int:
    """Serve until standard input ends."""
    return comfy_process.main(arguments, LoraProcess)


class LoraProcess(ComfyProcess):
    """A text encoder and LoRAs for it."""

    def __init__(self, opener: comfy_process.Opener) -> None:
        super().__init__(opener)
        self._loras: list[Any] = []
        self._clones: list[Any] = []

    def jobs(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what it can be told to do."""
        own = {
            "loras": self.make_loras,
            "clones": self.make_clones,
            "encode_clones": self.encode_clones,
            "encode_again": self.encode_again,
        }
        return {**super().jobs(), **own}

    def make_loras(self, count: int, kind: str) -> dict[str, Any]:
        """Make LoRAs in RAM; tell how much they take, and the weights that they change."""
        from ...nodes.lora.adapters import adapters_for
        from .random_loras import TEXT_LAYERS, bytes_of, random_loras

        weights = self.clip.cond_stage_model.state_dict()
        loras = random_loras(weights, TEXT_LAYERS, count)
        taken = dict(zip(("loras", "changed"), bytes_of(loras, weights), strict=True))
        if kind != STOCK:
            loras = [adapters_for(lora, fast=kind == FAST) for lora in loras]
        self._loras = loras
        return taken

    def make_clones(self, strengths: Sequence[Sequence[float]]) -> dict[str, Any]:
        """Make clones of the text encoder, each with its strengths of all LoRAs."""
        self._clones = []
        for of_clone in strengths:
            clone = self.clip.clone()
            for lora, strength in zip(self._loras, of_clone, strict=True):
                clone.add_patches(lora, strength)
            self._clones.append(clone)
        return {}

    def encode_clones(self) -> dict[str, Any]:
        """Encode a text with each of the clones; tell what became of it."""
        text = next(self.texts)
        return {"digest": digest_of(*(t for clone in self._clones for t in encoded(clone, text)))}

    def encode_again(self, calls: int) -> dict[str, Any]:
        """Encode new texts with the last of the clones."""
        for text in itertools.islice(self.texts, calls):
            found = encoded(self._clones[-1], text)
        return {"digest": digest_of(*found)}

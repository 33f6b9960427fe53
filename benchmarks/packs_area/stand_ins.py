"""Things that known packs need and that only models for download give, made small."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


class MiddleDetector:
    """A detector as the Impact Pack's nodes call it: it finds the middle of every image."""

    def setAux(self, label: Any) -> None:  # noqa: N802  (the Impact Pack's name)
        """Whatever is looked for."""

    def detect(self, image: torch.Tensor, *_: Any, **__: Any) -> tuple[tuple[int, int], list[Any]]:
        """Return the image's size and one found part."""
        height, width = image.shape[1:3]
        left, top, right, bottom = width // 4, height // 4, width * 3 // 4, height * 3 // 4
        found = sys.modules["impact.core"].SEG(
            cropped_image=None,
            cropped_mask=np.ones((height, width), dtype=np.float32),
            confidence=0.9,
            crop_region=[0, 0, width, height],
            bbox=np.array([left, top, right, bottom]),
            label="middle",
        )
        return (height, width), [found]

    def detect_combined(self, image: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Return the mask of what was found."""
        return torch.ones(image.shape[1:3])


def ip_adapter() -> dict[str, dict[str, torch.Tensor]]:
    """Return an IP-Adapter for SD1.5 and images as CLIP ViT-L embeds them."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.02

    # Blocks from the outermost in, from the innermost out, and the one in the middle.
    widths = (320, 320, 640, 640, 1280, 1280, *(1280,) * 3, *(640,) * 3, *(320,) * 3, 1280)
    layers = {
        f"{2 * number + 1}.to_{part}_ip.weight": random(width, 768)
        for number, width in enumerate(widths)
        for part in ("k", "v")
    }
    image = {
        "proj.weight": random(4 * 768, 768),
        "proj.bias": random(4 * 768),
        "norm.weight": random(768) + 1,
        "norm.bias": random(768),
    }
    return {"image_proj": image, "ip_adapter": layers}


MAKERS: Mapping[str, Callable[[], Any]] = {
    "BBOX_DETECTOR": MiddleDetector,
    "IPADAPTER": ip_adapter,
}

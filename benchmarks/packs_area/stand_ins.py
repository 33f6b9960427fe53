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


MAKERS: Mapping[str, Callable[[], Any]] = {"BBOX_DETECTOR": MiddleDetector}

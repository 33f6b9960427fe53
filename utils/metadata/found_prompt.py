"""What was found out about how a picture was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..loras.stack import LoraEntry


@dataclass(frozen=True, slots=True)
class FoundPrompt:
    """A picture's prompt and settings.

    Attributes:
        positive: The prompt; may have LoRA tags.
        negative: The negative prompt.
        loras: Those that were loaded beside the prompt, in their order.
        settings: Seed, steps, sampler and others, by ComfyUI's names, as far as they are known.
        width: That was asked for, in pixels; 0: unknown.
        height: That was asked for, in pixels; 0: unknown.
        source: Where it stood, in words.
    """

    positive: str
    negative: str = ""
    loras: tuple[LoraEntry, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    width: int = 0
    height: int = 0
    source: str = ""

"""The input `seed` of nodes that draw."""

from __future__ import annotations

from comfy_api.latest import io


def seed_input() -> io.Input:
    """Return it. Every number is a seed, 0 too."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Decides what is drawn: the same seed and inputs give the same. 0 is a seed like all others.",
    )

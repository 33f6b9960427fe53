"""The inputs `seed` and `index` of nodes that draw or count."""

from __future__ import annotations

from comfy_api.latest import io

MAX = 0xFFFFFFFFFFFFFFFF


def seed_input() -> io.Input:
    """Return it. Every number is a seed, 0 too."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX,
        control_after_generate=True,
        tooltip="Decides what is drawn: the same seed and inputs give the same. 0 is a seed like all others.",
    )


def still_seed_input() -> io.Input:
    """Return a seed that stays as it is from run to run.

    For nodes that seldom draw: a seed that changes would make all that follows run anew.
    """
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX,
        # Not left out: to an input of this name the page gives the widget that changes it.
        control_after_generate=False,
        optional=True,
        tooltip="Decides what is drawn by chance: the same seed and inputs give the same. 0 is a seed like all others.",
    )


def index_input(tooltip: str) -> io.Input:
    """Return an index that the page raises with every run."""
    known = getattr(io, "ControlAfterGenerate", None)  # older ComfyUIs let the person choose
    return io.Int.Input(
        "index",
        default=0,
        min=0,
        max=MAX,
        control_after_generate=known.increment if known else True,
        tooltip=tooltip,
    )

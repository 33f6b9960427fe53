"""Luna FBCache Override: other settings of the first-block cache from here on."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.sampling.first_block_cache import CacheSettings
from ..schema import node_schema
from .first_block_cache import with_first_block_cache


class LunaFBCacheOverride(io.ComfyNode):
    """Puts a first-block cache on a clone of a model, in place of the one that it had."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaFBCacheOverride",
            display_name="Luna FBCache Override",
            category="Luna/Sampling",
            description="Saves work on steps that change little: where the first block of the model says "
            "nearly the same as in the step before, the other blocks are not run, and what they gave "
            "before is used again. Replaces the settings of a Luna Config Gateway before it.",
            search_aliases=["first block cache", "fbcache", "wavespeed", "teacache", "speed up"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model; it stays as it is."),
                io.Boolean.Input("enabled", default=True, tooltip="Off: no cache from here on."),
                threshold_input("threshold", 0.25),
                *window_inputs("start_percent", "end_percent"),
                hits_input("max_consecutive_hits"),
            ],
            outputs=[io.Model.Output("model", tooltip="A clone with these settings.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        enabled: bool,
        threshold: float,
        start_percent: float,
        end_percent: float,
        max_consecutive_hits: int,
    ) -> io.NodeOutput:
        settings = CacheSettings(
            threshold if enabled else 0.0, start_percent, end_percent, max_consecutive_hits
        )
        return io.NodeOutput(with_first_block_cache(model, settings))


def threshold_input(name: str, default: float, **options: Any) -> io.Float.Input:
    """Return the input for how different two steps may be."""
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much the first block may differ from the last full step: 0.1 hardly shows, 0.3 "
        "saves more. 0: no cache.",
        **options,
    )


def window_inputs(start: str, end: str, **options: Any) -> list[io.Float.Input]:
    """Return the inputs for the part of the sampling in which the cache works."""
    return [
        io.Float.Input(
            start,
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="The cache works from this part of the sampling on.",
            **options,
        ),
        io.Float.Input(
            end,
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="The cache works up to this part of the sampling.",
            **options,
        ),
    ]


def hits_input(name: str, **options: Any) -> io.Int.Input:
    """Return the input for how many steps in a row may be saved."""
    return io.Int.Input(
        name,
        default=-1,
        min=-1,
        max=100,
        tooltip="After so many saved steps in a row, one is run in full. -1: no limit. 0: no cache.",
        **options,
    )


NODES = [LunaFBCacheOverride]

"""Luna Config Gateway: LoRAs, prompts, latent and sampler settings of a run in one place."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import comfy.utils
from comfy_api.latest import io
from server import PromptServer

from ...utils.loras.stack import to_tuples
from ...utils.sampling.first_block_cache import CacheSettings
from ..schema import node_schema
from .gateway import ClipSkipTiming, Configured, MissingLoras, Order, Progress, configure
from .gateway_sockets import gateway_inputs, gateway_outputs

_STAGES = 4


class LunaConfigGateway(io.ComfyNode):
    """Puts a run together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaConfigGateway",
            display_name="Luna Config Gateway",
            category="Luna/Workflow",
            description="Everything of a run in one node: takes LoRAs from a stack and from the prompts, "
            "puts them on a clone of the model and the text encoders without reading a file twice, encodes "
            "both prompts, makes the empty latent that the model wants, and gives it all as one pipe, as "
            "metadata for an image saver, and value by value.",
            search_aliases=[
                *("lora from prompt", "prompt lora", "lora tag", "apply lora stack"),
                *("efficient loader", "pipe in", "context", "empty latent", "clip skip"),
            ],
            inputs=gateway_inputs(
                list(comfy.samplers.KSampler.SAMPLERS), list(comfy.samplers.KSampler.SCHEDULERS)
            ),
            outputs=gateway_outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip_skip_timing: str,
        missing_loras: str = MissingLoras.ERROR.value,
        fb_cache_enabled: bool = False,
        fb_cache_start: float = 0.0,
        fb_cache_end: float = 1.0,
        fb_cache_threshold: float = 0.1,
        fb_cache_max_consecutive_hits: int = -1,
        **values: Any,
    ) -> io.NodeOutput:
        order = Order(
            clip_skip_timing=ClipSkipTiming(clip_skip_timing),
            missing_loras=MissingLoras(missing_loras),
            cache=CacheSettings(
                fb_cache_threshold if fb_cache_enabled else 0.0,
                fb_cache_start,
                fb_cache_end,
                fb_cache_max_consecutive_hits,
            ),
            **values,
        )
        return io.NodeOutput(*_outputs(order, configure(order, _shown_on(cls.hidden.unique_id))))


def _shown_on(node_id: str) -> Progress:
    """Return what shows on a node how far it is."""
    bar = comfy.utils.ProgressBar(_STAGES)

    def show(text: str) -> None:
        bar.update(1)
        PromptServer.instance.send_progress_text(text, node_id)

    return show


def _outputs(order: Order, made: Configured) -> tuple[Any, ...]:
    pipe = made.pipe
    return (
        *(pipe, made.metadata, pipe.model, pipe.clip, pipe.vae),
        *(pipe.positive, pipe.negative, pipe.latent, order.width, order.height),
        *(order.batch_size, order.seed, order.steps, order.cfg, order.denoise, order.clip_skip),
        *(order.sampler, order.scheduler, order.model_name, made.positive, made.negative),
        *(to_tuples(made.loras), made.report),
    )


NODES = [LunaConfigGateway]

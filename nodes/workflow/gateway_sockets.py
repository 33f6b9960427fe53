"""The inputs and outputs of the Luna Config Gateway."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .. import io_types
from ..sampling.luna_fb_cache_override import hits_input, threshold_input, window_inputs
from ..schema import ADVANCED
from .gateway import ClipSkipTiming, MissingLoras


def gateway_inputs(samplers: list[str], schedulers: list[str]) -> list[Any]:
    """Return the inputs, in the order in which older workflows have their widgets."""
    return [
        io.Model.Input("model", tooltip="The diffusion model; it stays as it is."),
        io.Clip.Input("clip", tooltip="The text encoders; they stay as they are."),
        io.Vae.Input("vae", tooltip="The VAE; passed on in the pipe."),
        _size("width"),
        _size("height"),
        io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Pictures at once."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The seed of the noise.",
        ),
        io.Int.Input("steps", default=25, min=1, max=1000, tooltip="Number of steps."),
        io.Float.Input(
            "cfg",
            default=7.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="How closely the prompt is followed.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How much is drawn anew: 1 everything.",
        ),
        io.Int.Input(
            "clip_skip",
            default=-2,
            min=-24,
            max=-1,
            tooltip="The text encoder's layer that counts, from the end: -1 the last. For CLIP encoders "
            "only; others, such as T5, have no use for it.",
        ),
        io.Combo.Input(
            "clip_skip_timing",
            options=[timing.value for timing in ClipSkipTiming],
            default=ClipSkipTiming.AFTER_LORA.value,
            tooltip="Whether clip_skip comes before the LoRAs or after them. The result is the same.",
        ),
        io.Combo.Input(
            "sampler", options=samplers, default="dpmpp_2m", tooltip="The sampling method."
        ),
        io.Combo.Input(
            "scheduler",
            options=schedulers,
            default="karras",
            tooltip="How the noise goes down from step to step.",
        ),
        *_optional_inputs(),
    ]


def _optional_inputs() -> list[Any]:
    return [
        io.String.Input(
            "model_name",
            default="",
            optional=True,
            tooltip="The model's name for the metadata; the router gives it.",
        ),
        io.String.Input(
            "positive_prompt",
            optional=True,
            force_input=True,
            tooltip="What the picture is to show; <lora:name:weight> in it puts LoRAs on.",
        ),
        io.String.Input(
            "negative_prompt",
            optional=True,
            force_input=True,
            tooltip="What it is not to show; its LoRA tags count, too.",
        ),
        io_types.LoraStack.Input(
            "lora_stack",
            optional=True,
            tooltip="LoRAs from a stacker, of this pack or another. A tag in a prompt beats the same "
            "LoRA here.",
        ),
        io_types.LunaVisionEmbed.Input(
            "vision_embed",
            optional=True,
            tooltip="What an image says, added to the positive prompt.",
        ),
        io.Float.Input(
            "vision_strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            optional=True,
            tooltip="How strongly the image counts.",
        ),
        io.Boolean.Input(
            "fb_cache_enabled",
            default=False,
            optional=True,
            tooltip="First-block cache: leaves out work in steps that change little. The picture changes "
            "a little, too.",
        ),
        *window_inputs("fb_cache_start", "fb_cache_end", optional=True, **ADVANCED),
        threshold_input("fb_cache_threshold", 0.1, optional=True, **ADVANCED),
        hits_input("fb_cache_max_consecutive_hits", optional=True, **ADVANCED),
        io.Combo.Input(
            "missing_loras",
            options=[choice.value for choice in MissingLoras],
            default=MissingLoras.ERROR.value,
            optional=True,
            **ADVANCED,
            tooltip="A LoRA whose name fits no file, or several: stop with an error, or leave it out and "
            "say so in the report.",
        ),
        io.Boolean.Input(
            "fast_loras",
            default=False,
            optional=True,
            **ADVANCED,
            tooltip="Put LoRAs on with fewer roundings than ComfyUI: faster, and off by the last digit of "
            "a weight at most. Off: exactly ComfyUI's weights.",
        ),
    ]


def _size(name: str) -> Any:
    return io.Int.Input(
        name, default=1024, min=64, max=8192, step=8, tooltip="Of the picture, in pixels."
    )


def gateway_outputs() -> list[Any]:
    """Return the outputs: pipe and metadata, then every value."""
    return [
        io_types.LunaPipe.Output("luna_pipe", tooltip="The whole run, for samplers of this pack."),
        io_types.Metadata.Output("metadata", tooltip="The run's parameters, for an image saver."),
        io.Model.Output("model", tooltip="The diffusion model with the LoRAs: a clone."),
        io.Clip.Output("clip", tooltip="The text encoders with the LoRAs: a clone."),
        io.Vae.Output("vae", tooltip="The VAE."),
        io.Conditioning.Output("positive", tooltip="The positive prompt, encoded."),
        io.Conditioning.Output("negative", tooltip="The negative prompt, encoded."),
        io.Latent.Output("latent", tooltip="An empty latent as the model wants it."),
        io.Int.Output("width", tooltip="Of the picture, in pixels."),
        io.Int.Output("height", tooltip="Of the picture, in pixels."),
        io.Int.Output("batch_size", tooltip="Pictures at once."),
        io.Int.Output("seed", tooltip="The seed."),
        io.Int.Output("steps", tooltip="Number of steps."),
        io.Float.Output("cfg", tooltip="How closely the prompt is followed."),
        io.Float.Output("denoise", tooltip="How much is drawn anew."),
        io.Int.Output("clip_skip", tooltip="The text encoder's layer that counts."),
        io.Combo.Output("sampler", tooltip="Name of the sampler; fits a sampler's combo."),
        io.Combo.Output("scheduler", tooltip="Name of the scheduler; fits its combo."),
        io.String.Output("model_name", tooltip="The model's name."),
        io.String.Output("positive_prompt", tooltip="The positive prompt without LoRA tags."),
        io.String.Output("negative_prompt", tooltip="The negative prompt without LoRA tags."),
        io_types.LoraStack.Output(
            "lora_stack", tooltip="The LoRAs that were put on, from stack and prompts, each once."
        ),
        io.String.Output(
            "report", tooltip="What each LoRA did, and what was done otherwise than asked."
        ),
    ]

"""Runs ComfyUI's own sampler with values from inputs and from a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io

from ...utils.errors import InputError
from ...utils.prompt_graph import linked_inputs
from ...utils.sampling.pipe import read_pipe
from .. import io_types
from ..model_folders import loader_node
from ..prompt_context import graph_of

# Our inputs → a pipe's fields, where the names differ.
_FIELD_OF = {
    "latent_image": "latent",
    "sampler_name": "sampler",
    "noise_seed": "seed",
}
_SOCKETS = ("model", "positive", "negative", "latent_image")


def settled(values: Mapping[str, Any], pipe: object, hidden: Any) -> dict[str, Any]:
    """Return a sampler's values: what is linked counts, then the pipe, then what the node shows.

    Raises:
        InputError: Neither an input nor the pipe has something that a sampler needs.
    """
    found = dict(values)
    if pipe is not None:
        linked = linked_inputs(graph_of(hidden.dynprompt), hidden.unique_id)
        fields = read_pipe(pipe)
        for name in found:
            said = getattr(fields, _FIELD_OF.get(name, name), None)
            if name not in linked and said is not None:
                found[name] = said
    missing = [name for name in _SOCKETS if found.get(name) is None]
    if missing:
        raise InputError(
            f"The sampler has no {', '.join(missing)}.", "Link them, or a pipe that has them."
        )
    return found


def sample(values: Mapping[str, Any], kind: str = "KSampler") -> dict[str, Any]:
    """Run one of ComfyUI's own samplers with the values that it takes."""
    node = loader_node(kind)
    taken = {
        name for group in ("required", "optional") for name in node.INPUT_TYPES().get(group, {})
    }
    named = {name: value for name, value in values.items() if name in taken}
    result: dict[str, Any] = node().sample(**named)[0]
    return result


def sample_with_noise(values: Mapping[str, Any], noise: torch.Tensor) -> dict[str, Any]:
    """Sample as KSampler does, with this noise in place of the seed's.

    Raises:
        InputError: The noise has another shape than the latent.
    """
    model, latent = values["model"], values["latent_image"]
    samples = _as_the_model_wants(model, latent)
    if noise.shape != samples.shape:
        raise InputError(
            f"The noise scaffold has the shape {tuple(noise.shape)}, and the latent has "
            f"{tuple(samples.shape)}.",
            "Make both for the same model, size and batch.",
        )
    drawn = comfy.sample.sample(
        model,
        noise.to(device="cpu", dtype=samples.dtype),
        values["steps"],
        values["cfg"],
        values["sampler_name"],
        values["scheduler"],
        values["positive"],
        values["negative"],
        samples,
        denoise=values["denoise"],
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, values["steps"]),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=values["seed"],
    )
    kept = {name: value for name, value in latent.items() if name not in _RATIOS}
    return {**kept, "samples": drawn}


# What an empty latent says of its size, which newer releases of ComfyUI use and then drop.
_RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")


def _as_the_model_wants(model: Any, latent: Mapping[str, Any]) -> torch.Tensor:
    said = [latent.get(name) for name in _RATIOS]
    known = said if any(value is not None for value in said) else []
    samples: torch.Tensor = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *known)
    return samples


def socket_inputs() -> list[Any]:
    """Return the inputs of a sampler that a pipe may stand in for."""
    from_pipe = "Not linked: that of the pipe."
    return [
        io.Model.Input("model", optional=True, tooltip=f"The diffusion model. {from_pipe}"),
        io.Conditioning.Input(
            "positive", optional=True, tooltip=f"What the picture is to show. {from_pipe}"
        ),
        io.Conditioning.Input(
            "negative", optional=True, tooltip=f"What it is not to show. {from_pipe}"
        ),
        io.Latent.Input("latent_image", optional=True, tooltip=f"The latent. {from_pipe}"),
    ]


def pipe_input() -> Any:
    """Return the input for a pipe beside a sampler's own inputs."""
    return io_types.LunaPipe.Input(
        "luna_pipe",
        optional=True,
        tooltip="Gives everything that is not linked here; then what the widgets show does not count.",
    )


def number_inputs(seed: str = "seed") -> list[Any]:
    """Return a sampler's widgets, as ComfyUI's own samplers have them."""
    return [
        io.Int.Input(
            seed,
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The seed of the noise.",
        ),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Number of steps."),
        io.Float.Input(
            "cfg",
            default=8.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="How closely the prompt is followed.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=list(comfy.samplers.KSampler.SAMPLERS),
            tooltip="The sampling method.",
        ),
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.KSampler.SCHEDULERS),
            tooltip="How the noise goes down from step to step.",
        ),
    ]


def denoise_input() -> Any:
    """Return the input for how much of the latent is drawn anew."""
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much is drawn anew: 1 everything; less keeps more of the latent.",
    )


def latent_output() -> Any:
    """Return a sampler's output."""
    return io.Latent.Output("latent", tooltip="The latent that was drawn.")

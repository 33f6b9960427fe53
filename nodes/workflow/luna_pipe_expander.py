"""Luna Pipe Expander: a pipe's values, one output each."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.sampling.pipe import FIELDS, read_pipe
from .. import io_types
from ..schema import node_schema


class LunaPipeExpander(io.ComfyNode):
    """Takes a pipe apart."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaPipeExpander",
            display_name="Luna Pipe Expander",
            category="Luna/Workflow",
            description="Gives every value of a Luna pipe as an output of its own, for nodes that do not "
            "take pipes. What a pipe does not say is an empty output.",
            search_aliases=["unpack pipe", "pipe out", "from pipe", "context"],
            inputs=[io_types.LunaPipe.Input("luna_pipe", tooltip="A pipe, of any age.")],
            outputs=[
                io.Model.Output("model", tooltip="The diffusion model, with its LoRAs."),
                io.Clip.Output("clip", tooltip="The text encoders, with their LoRAs."),
                io.Vae.Output("vae", tooltip="The VAE."),
                io.Conditioning.Output("positive", tooltip="What the picture is to show."),
                io.Conditioning.Output("negative", tooltip="What it is not to show."),
                io.Latent.Output("latent", tooltip="The empty latent."),
                io.Int.Output("width", tooltip="Of the picture, in pixels."),
                io.Int.Output("height", tooltip="Of the picture, in pixels."),
                io.Int.Output("seed", tooltip="The seed."),
                io.Int.Output("steps", tooltip="Number of steps."),
                io.Float.Output("cfg", tooltip="How closely the prompt is followed."),
                io.Float.Output("denoise", tooltip="How much is drawn anew."),
                io.Combo.Output("sampler", tooltip="Name of the sampler; fits a sampler's combo."),
                io.Combo.Output("scheduler", tooltip="Name of the scheduler; fits its combo."),
            ],
        )

    @classmethod
    def execute(cls, luna_pipe: Any) -> io.NodeOutput:
        pipe = read_pipe(luna_pipe)
        return io.NodeOutput(*(getattr(pipe, name) for name in FIELDS))


NODES = [LunaPipeExpander]

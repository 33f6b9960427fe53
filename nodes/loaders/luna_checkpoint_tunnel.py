"""Luna Checkpoint Tunnel: what another loader has loaded, shared through the daemon."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..model_source import DaemonMode, share_source, times_to_load_again
from ..prompt_context import workflow_id_of
from ..schema import node_schema
from .sharing import KeptModels, share_clip, share_vae


class LunaCheckpointTunnel(io.ComfyNode):
    """Behind any checkpoint loader: text encoders and VAE go into the daemon."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaCheckpointTunnel",
            display_name="Luna Checkpoint Tunnel",
            category="Luna/Loaders",
            description="Put it behind any loader: the text encoders and the VAE are opened in the Luna "
            "daemon from the same files, with the LoRAs that are applied, and the copies here can be "
            "freed. The model passes untouched; so does everything where the daemon cannot be reached.",
            search_aliases=["share checkpoint", "shared clip", "shared vae", "daemon"],
            inputs=[
                io.Model.Input("model", tooltip="Passes untouched."),
                io.Clip.Input("clip", tooltip="Text encoders from any of ComfyUI's loaders."),
                io.Vae.Input("vae", tooltip="A VAE from any of ComfyUI's loaders."),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The same model."),
                io.Clip.Output("clip", tooltip="The text encoders, in the daemon where possible."),
                io.Vae.Output("vae", tooltip="The VAE, in the daemon where possible."),
                io.String.Output("status", tooltip="What is shared, and what is not and why."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return times_to_load_again()

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any) -> io.NodeOutput:
        kept = KeptModels(clip, vae)
        source = share_source(DaemonMode.AUTO, workflow_id_of(cls.hidden), "Other", kept)
        shared_clip, about_clip = share_clip(clip, source)
        shared_vae, about_vae = share_vae(vae, source)
        status = "\n".join([f"{about_clip} | {about_vae}", *source.notes])
        return io.NodeOutput(model, shared_clip, shared_vae, status)


NODES = [LunaCheckpointTunnel]

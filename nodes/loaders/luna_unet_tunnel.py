"""Luna UNet Tunnel: text encoders and VAE from the daemon for a diffusion model that comes alone."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..model_source import DaemonMode, share_source, times_to_load_again
from ..prompt_context import workflow_id_of
from ..schema import node_schema
from .companions import MODEL_TYPE_NAMES, companions_of
from .sharing import KeptModels, share_clip, share_vae


class LunaUNetTunnel(io.ComfyNode):
    """Behind a loader of diffusion models, GGUF ones too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaUNetTunnel",
            display_name="Luna UNet Tunnel (GGUF)",
            category="Luna/Loaders",
            description="Put it behind a loader of a diffusion model alone, such as a GGUF one: text "
            "encoders and VAE come from the Luna daemon, those that it holds already first. What is "
            "linked to clip and vae is shared as the Checkpoint Tunnel does it.",
            search_aliases=["gguf", "unet", "shared clip", "shared vae", "daemon"],
            inputs=[
                io.Model.Input("model", tooltip="Passes untouched."),
                io.Combo.Input(
                    "model_type",
                    options=list(MODEL_TYPE_NAMES),
                    default="sdxl",
                    tooltip="The model's family; auto looks at the model.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="Text encoders to share instead."),
                io.Vae.Input("vae", optional=True, tooltip="A VAE to share instead."),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The same model."),
                io.Clip.Output("clip", tooltip="The text encoders."),
                io.Vae.Output("vae", tooltip="The VAE."),
                io.String.Output("status", tooltip="What was taken, and why."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return times_to_load_again()

    @classmethod
    def execute(
        cls, model: Any, model_type: str, clip: Any = None, vae: Any = None
    ) -> io.NodeOutput:
        family, parts = companions_of(model, model_type, clip is None, vae is None)
        # What is given may stay local; what is not given can only come from the daemon.
        mode = DaemonMode.AUTO if parts.is_empty else DaemonMode.FORCE_DAEMON
        name = workflow_id_of(cls.hidden)
        source = share_source(mode, name, family.name, KeptModels(clip, vae))
        clip_out, about_clip = parts.clip_from(source) or share_clip(clip, source)
        vae_out, about_vae = parts.vae_from(source) or share_vae(vae, source)
        status = f"[{family.name}] {about_clip} | {about_vae}"
        return io.NodeOutput(model, clip_out, vae_out, "\n".join([status, *source.notes]))


NODES = [LunaUNetTunnel]

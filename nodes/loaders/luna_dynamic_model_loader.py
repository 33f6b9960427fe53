"""Luna Dynamic Model Loader: a checkpoint whose diffusion model is converted once, and loaded from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ...utils.file_names import FileNames
from ...utils.prompt_graph import Prompt, connected_outputs
from ...utils.routing.choice import AUTO, Choice
from ...utils.routing.fingerprint import fingerprint
from ...utils.routing.planner import make_plan
from ..model_folders import names_in, shelf
from ..model_source import DaemonMode, choose_source, times_to_load_again
from ..precision.model_places import model_folder
from ..prompt_context import graph_of, graph_that_runs, workflow_id_of
from ..schema import node_schema
from .model_set import load_model_set
from .precision import PreciseModels
from .router_inputs import daemon_mode_input, precision_input

CHECKPOINTS = "checkpoints"
OUTPUTS = ("model", "clip", "vae", "unet_path", "status")


class LunaDynamicModelLoader(io.ComfyNode):
    """Model from the converted file, text encoders and VAE from the checkpoint, each only where it is linked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaDynamicModelLoader",
            display_name="Luna Dynamic Model Loader",
            category="Luna/Loaders",
            description="Loads a checkpoint whose diffusion model is converted to another precision the first "
            "time, and loaded from the converted file ever after. Text encoders and VAE come from the "
            "checkpoint. The Luna Model Router does the same and more.",
            search_aliases=["load checkpoint", "fp8", "gguf", "quantize", "precision"],
            inputs=[
                io.Combo.Input(
                    "ckpt_name", options=FileNames(names_in(CHECKPOINTS)), tooltip="The checkpoint."
                ),
                precision_input("precision", []),
                io.String.Input(
                    "local_weights_dir",
                    default="",
                    optional=True,
                    tooltip="A folder below models/unet or models/diffusion_models for converted files. "
                    "Empty: models/unet itself.",
                ),
                daemon_mode_input(optional=True),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The diffusion model, in the chosen precision."),
                io.Clip.Output("clip", tooltip="The checkpoint's text encoders."),
                io.Vae.Output("vae", tooltip="The checkpoint's VAE."),
                io.String.Output(
                    "unet_path", tooltip="Where the file is that the model is loaded from."
                ),
                io.String.Output("status", tooltip="What was converted, found and loaded."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, ckpt_name: str = "", **values: Any) -> list[str]:
        wanted = _wanted(graph_that_runs(), cls.hidden.unique_id)
        files = fingerprint(_choice(ckpt_name, wanted), shelf)
        if values.get("daemon_mode") == DaemonMode.FORCE_LOCAL:
            return files
        return [*files, f"daemon {times_to_load_again()}"]

    @classmethod
    def execute(cls, ckpt_name: str, precision: str = "bf16", **values: Any) -> io.NodeOutput:
        wanted = _wanted(graph_of(cls.hidden.dynprompt), cls.hidden.unique_id)
        mode = DaemonMode(values.get("daemon_mode", DaemonMode.AUTO))
        folder = model_folder(values.get("local_weights_dir", ""))
        plan = make_plan(_choice(ckpt_name, wanted), shelf)
        source = choose_source(mode, workflow_id_of(cls.hidden), plan.model_type)
        models = PreciseModels(precision, folder)
        if plan.model is not None and "model" not in wanted:  # only where it lies is asked for
            models.file(plan.model)
            plan = replace(plan, model=None)
        loaded = load_model_set(plan, mode, source, models)
        return io.NodeOutput(loaded.model, loaded.clip, loaded.vae, models.path, loaded.status)


def _choice(ckpt_name: str, wanted: frozenset[str]) -> Choice:
    """Return what the router would be asked for; the path is that of the model."""
    parts = wanted | {"model"} if "unet_path" in wanted else wanted
    return Choice(CHECKPOINTS, ckpt_name, AUTO, wanted=parts)


def _wanted(graph: Prompt, node_id: str) -> frozenset[str]:
    return frozenset(OUTPUTS[index] for index in connected_outputs(graph, node_id))


NODES = [LunaDynamicModelLoader]

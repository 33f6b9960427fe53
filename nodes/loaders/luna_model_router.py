"""Luna Model Router: a whole model set from one node, shared through the daemon."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.prompt_graph import Prompt, connected_outputs
from ...utils.routing.choice import NOTHING
from ...utils.routing.fingerprint import fingerprint
from ...utils.routing.planner import make_plan
from .. import io_types
from ..model_folders import register_gguf_files, register_ip_adapters, shelf
from ..model_source import DaemonMode, choose_source, times_to_load_again
from ..prompt_context import graph_of, graph_that_runs, workflow_id_of
from ..schema import need_dynamic_combo, node_schema
from .model_set import load_model_set, read_choice
from .precision import PreciseModels
from .router_inputs import router_inputs

need_dynamic_combo()
register_ip_adapters()
register_gguf_files()
OUTPUTS = ("model", "clip", "vae", "llm", "clip_vision", "ip_adapter", "model_name", "status")


class LunaModelRouter(io.ComfyNode):
    """Loads diffusion model, text encoders, VAE and more, each only where it is linked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaModelRouter",
            display_name="Luna Model Router ⚡",
            category="Luna/Loaders",
            description="Loads a diffusion model with its text encoders and VAE. Text encoders, VAE and "
            "image encoder come from the Luna daemon, which holds them once for all ComfyUI processes "
            "of this machine. Only what is linked is loaded.",
            search_aliases=[
                "checkpoint loader",
                "load checkpoint",
                "load diffusion model",
                "load clip",
            ],
            inputs=router_inputs(),
            outputs=[
                io.Model.Output("model", tooltip="The diffusion model; always in this process."),
                io.Clip.Output("clip", tooltip="The text encoders."),
                io.Vae.Output("vae", tooltip="The VAE."),
                io_types.Llm.Output(
                    "llm", tooltip="Z-IMAGE: a description of its language model, for vision nodes."
                ),
                io.ClipVision.Output("clip_vision", tooltip="The image encoder."),
                io_types.IpAdapter.Output("ip_adapter", tooltip="The IP-Adapter."),
                io.String.Output("model_name", tooltip="Name of the model's file."),
                io.String.Output(
                    "status", tooltip="What was loaded, from where, and what to know."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(
        cls, model_type: dict[str, Any] | None = None, **values: Any
    ) -> list[str]:
        # A newly linked output has to be loaded, and so has a file that was replaced, and everything
        # after the daemon was lost.
        if model_type is None:
            return []
        wanted = _wanted(graph_that_runs(), cls.hidden.unique_id)
        files = fingerprint(read_choice(values, model_type, wanted), shelf)
        if values["daemon_mode"] == DaemonMode.FORCE_LOCAL:
            return files
        return [*files, f"daemon {times_to_load_again()}"]

    @classmethod
    def execute(cls, model_type: dict[str, Any] | None = None, **values: Any) -> io.NodeOutput:
        wanted = _wanted(graph_of(cls.hidden.dynprompt), cls.hidden.unique_id)
        plan = make_plan(read_choice(values, model_type, wanted), shelf)
        mode = DaemonMode(values["daemon_mode"])
        source = choose_source(mode, workflow_id_of(cls.hidden), plan.model_type)
        models = PreciseModels(values.get("dynamic_precision", NOTHING))
        loaded = load_model_set(plan, mode, source, models)
        return io.NodeOutput(*(getattr(loaded, name) for name in OUTPUTS))


def _wanted(graph: Prompt, node_id: str) -> frozenset[str]:
    return frozenset(OUTPUTS[index] for index in connected_outputs(graph, node_id))


NODES = [LunaModelRouter]

"""Luna Secondary Model Loader: one more model in a workflow, which takes over what the first one has."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.file_names import FileNames
from ...utils.prompt_graph import Prompt, connected_outputs
from ...utils.routing.choice import AUTO, ENCODER_LIST, FROM_CHECKPOINT, NOTHING, VAE_LIST
from ...utils.routing.second_model import (
    SecondChoice,
    make_second_plan,
    names_of_types,
    second_fingerprint,
)
from ..model_folders import names_in, shelf
from ..model_source import DaemonMode, choose_source, times_to_load_again
from ..prompt_context import graph_of, graph_that_runs, workflow_id_of
from ..schema import node_schema
from .router_inputs import daemon_mode_input, model_inputs
from .second_model import AUTO as AUTO_FIRST
from .second_model import First, load_second

OUTPUTS = ("model", "clip", "vae", "model_name", "status", "primary_id")
_CHOSEN = ("model_source", "model_name", "model_type", "additional_clip", "secondary_vae")


class LunaSecondaryModelLoader(io.ComfyNode):
    """Loads a second model; shares text encoders, and lets the first one leave the device."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaSecondaryModelLoader",
            display_name="Luna Secondary Model Loader 🔄",
            category="Luna/Loaders",
            description="Loads a second model beside the first. Text encoders that both need are taken over "
            "from the first, so they are in memory once, and only those that are missing are loaded. The "
            "first model can leave the GPU's memory while the second one samples.",
            search_aliases=[
                "second checkpoint",
                "refiner",
                "model switch",
                "offload model",
                "unload",
            ],
            inputs=[*_required(), *_optional()],
            outputs=[
                io.Model.Output("model", tooltip="The second diffusion model."),
                io.Clip.Output("clip", tooltip="Its text encoders."),
                io.Vae.Output("vae", tooltip="Its VAE, or the first model's where that fits."),
                io.String.Output("model_name", tooltip="Name of its file."),
                io.String.Output("status", tooltip="What was shared, loaded and put aside."),
                io.String.Output(
                    "primary_id", tooltip="The name of the first model, for the Luna Model Restore."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> list[str]:
        if values.get("model_name") is None:
            return []
        wanted = _wanted(graph_that_runs(), cls.hidden.unique_id)
        files = second_fingerprint(SecondChoice(wanted=wanted, **_chosen(values)), shelf)
        if values.get("daemon_mode") == DaemonMode.FORCE_LOCAL:
            return files
        return [*files, f"daemon {times_to_load_again()}"]

    @classmethod
    def execute(cls, unload_primary_to_ram: bool, **values: Any) -> io.NodeOutput:
        first = First(*(values.get(f"primary_{part}") for part in ("model", "clip", "vae")))
        choice = SecondChoice(
            wanted=_wanted(graph_of(cls.hidden.dynprompt), cls.hidden.unique_id),
            has=first.roles,
            has_vae=first.vae is not None,
            first_family=first.family(values.get("primary_type", AUTO_FIRST)),
            **_chosen(values),
        )
        plan = make_second_plan(choice, shelf)
        mode = DaemonMode(values.get("daemon_mode", DaemonMode.AUTO))
        source = choose_source(mode, workflow_id_of(cls.hidden), plan.plan.model_type)
        second = load_second(plan, first, source, mode, unload_primary_to_ram)
        named = (plan.model.name, second.status, second.first_id)
        return io.NodeOutput(second.model, second.clip, second.vae, *named)


def _required() -> list[io.Input]:
    return [
        *model_inputs(),
        io.Combo.Input(
            "model_type",
            options=[AUTO, *names_of_types()],
            default=AUTO,
            tooltip="The second model's family, which decides about its text encoders. Auto reads the "
            "file's header.",
        ),
        io.Boolean.Input(
            "unload_primary_to_ram",
            default=True,
            tooltip="The first model leaves the GPU's memory now, and again whenever the second one is "
            "sampled with. Its weights stay in RAM, with all its LoRAs.",
        ),
    ]


def _optional() -> list[io.Input]:
    return [
        io.Model.Input("primary_model", optional=True, tooltip="The first model."),
        io.Clip.Input(
            "primary_clip",
            optional=True,
            tooltip="The first model's text encoders, with their LoRAs. Unlinked: the second model gets "
            "its own.",
        ),
        io.Vae.Input(
            "primary_vae",
            optional=True,
            tooltip="The first model's VAE, for a second model of the same family without one.",
        ),
        io.Combo.Input(
            "primary_type",
            options=[AUTO_FIRST, *names_of_types()],
            default=AUTO_FIRST,
            optional=True,
            tooltip="The first model's family; auto looks at what is linked.",
        ),
        io.Combo.Input(
            "additional_clip",
            options=FileNames([NOTHING, *names_in(ENCODER_LIST)]),
            default=NOTHING,
            optional=True,
            tooltip="A text encoder that the first model does not have, or another than it has.",
        ),
        io.Combo.Input(
            "secondary_vae",
            options=FileNames([NOTHING, FROM_CHECKPOINT, *names_in(VAE_LIST)]),
            default=NOTHING,
            optional=True,
            tooltip="The second model's VAE. None: the one inside its checkpoint, else the first model's "
            "where it fits.",
        ),
        daemon_mode_input(optional=True),
    ]


def _chosen(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _CHOSEN if name in values}


def _wanted(graph: Prompt, node_id: str) -> frozenset[str]:
    return frozenset(OUTPUTS[index] for index in connected_outputs(graph, node_id))


NODES = [LunaSecondaryModelLoader]

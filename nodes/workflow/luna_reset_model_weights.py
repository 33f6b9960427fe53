"""Luna Reset Model Weights: the model without the LoRAs of the run that is over."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..lora.reset import reset
from ..schema import node_schema


class LunaResetModelWeights(io.ComfyNode):
    """Returns the base model, and puts its weights in memory back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaResetModelWeights",
            display_name="Luna Reset Model Weights",
            category="Luna/Workflow",
            description="Ends the LoRAs of a run: gives the model as it was before the Luna Config Gateway "
            "put any on, and puts the weights in memory back. Behind LoRA loaders of other nodes it takes "
            "all patches of weights off.",
            search_aliases=["reset lora", "remove lora", "unpatch model", "unload lora", "restore"],
            inputs=[
                io.Model.Input("model", tooltip="A model with LoRAs, or without."),
                io.AnyType.Input(
                    "passthrough",
                    optional=True,
                    tooltip="Link the last thing of the workflow here: the reset waits for it.",
                ),
                io.Boolean.Input(
                    "restore_now",
                    default=True,
                    optional=True,
                    tooltip="Put the weights in memory back at once. Off: it happens when the model is "
                    "used next, which saves work where the same LoRAs come again.",
                ),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The model without the LoRAs."),
                io.AnyType.Output("passthrough", tooltip="What was linked there."),
                io.String.Output("report", tooltip="What was done."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model: Any, passthrough: Any = None, restore_now: bool = True
    ) -> io.NodeOutput:
        base, report = reset(model, now=restore_now)
        return io.NodeOutput(base, passthrough, report, ui=ui.PreviewText(report))


NODES = [LunaResetModelWeights]

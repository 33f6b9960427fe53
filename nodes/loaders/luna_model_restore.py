"""Luna Model Restore: the first model back on its device, once the second one has done its work."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..schema import node_schema
from .memory import restore
from .parked_models import find


class LunaModelRestore(io.ComfyNode):
    """Waits for the trigger, then brings a model that was put aside back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaModelRestore",
            display_name="Luna Model Restore 📤",
            category="Luna/Loaders",
            description="Brings the first model back to its device after the second one was used: the same "
            "weights, bit for bit, with the same LoRAs. What is linked to trigger passes through, and the "
            "node waits for it.",
            search_aliases=["load back", "reload model", "model switch", "onload", "primary model"],
            inputs=[
                io.AnyType.Input(
                    "trigger",
                    tooltip="The last thing that the second model makes, such as its image: the model is "
                    "brought back after it.",
                ),
                io.String.Input(
                    "model_id",
                    default="",
                    optional=True,
                    tooltip="Which model, as the Secondary Model Loader names it in primary_id. Empty: "
                    "the one that was put aside first.",
                ),
                io.Model.Input(
                    "original_model",
                    optional=True,
                    tooltip="The model itself, where it can be linked; model_id is not looked at then.",
                ),
            ],
            outputs=[
                io.AnyType.Output("passthrough", tooltip="What was linked to trigger."),
                io.Model.Output("restored_model", tooltip="The model, on its device."),
                io.String.Output(
                    "status", tooltip="Which model it is, and how much of it is there."
                ),
            ],
        )

    @classmethod
    def execute(cls, trigger: Any, model_id: str = "", original_model: Any = None) -> io.NodeOutput:
        model = original_model if original_model is not None else find(model_id.strip())
        return io.NodeOutput(trigger, model, restore(model))


NODES = [LunaModelRestore]

"""Luna Switch: one of two, and only that one is computed."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.errors import InputError
from ..schema import node_schema


class LunaSwitch(io.ComfyNode):
    """Lets one of two inputs through."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaSwitch",
            display_name="Luna Switch",
            category="Luna/Logic",
            description="Gives on_true or on_false, whatever they are. What leads to the other one does not run, so "
            "that no model is loaded and no picture is drawn for nothing.",
            search_aliases=["if else", "lazy switch", "branch", "conditional", "select"],
            inputs=[
                io.Boolean.Input("condition", default=True, tooltip="Which one is given."),
                io.AnyType.Input(
                    "on_true", lazy=True, optional=True, tooltip="What is given when it is true."
                ),
                io.AnyType.Input(
                    "on_false", lazy=True, optional=True, tooltip="What is given when it is false."
                ),
            ],
            outputs=[io.AnyType.Output("output", tooltip="The one that was chosen.")],
        )

    @classmethod
    def check_lazy_status(cls, condition: bool, **given: Any) -> list[str]:
        chosen = _chosen(condition)
        # Only what is connected is handed over, without a value as long as it has not run.
        return [chosen] if chosen in given and given[chosen] is None else []

    @classmethod
    def execute(cls, condition: bool, **given: Any) -> io.NodeOutput:
        chosen = _chosen(condition)
        if chosen not in given:
            raise InputError(
                f"'condition' is {str(condition).lower()}, but nothing is connected with '{chosen}'.",
                "Connect it.",
            )
        return io.NodeOutput(given[chosen])


def _chosen(condition: bool) -> str:
    return "on_true" if condition else "on_false"


NODES = [LunaSwitch]

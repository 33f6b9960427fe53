"""Luna Compare: a question about two values."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.expressions.comparing import Comparison, compare
from ..schema import node_schema
from .value_inputs import value_of


class LunaCompare(io.ComfyNode):
    """Two values → a truth value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaCompare",
            display_name="Luna Compare",
            category="Luna/Logic",
            description="Compares two values, numbers as numbers and texts as texts, and gives a truth value, for "
            "example for Luna Switch. Numbers may differ by a tolerance, texts by capitals.",
            search_aliases=["equal", "greater than", "if", "condition", "contains"],
            inputs=[
                io.AnyType.Input(
                    "a", tooltip="A number, a text, a truth value, or an image's sizes."
                ),
                io.AnyType.Input("b", tooltip="What it is compared with."),
                io.Combo.Input(
                    "comparison",
                    options=[each.value for each in Comparison],
                    default=Comparison.EQUAL.value,
                    tooltip="The question.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=0.0,
                    min=0.0,
                    max=1e9,
                    step=0.001,
                    optional=True,
                    tooltip="Numbers that are no further apart count as equal.",
                ),
                io.Boolean.Input(
                    "ignore_case",
                    default=False,
                    optional=True,
                    tooltip="Texts that differ in capitals only count as equal.",
                ),
            ],
            outputs=[io.Boolean.Output("result", tooltip="Whether it is so.")],
        )

    @classmethod
    def execute(
        cls, a: Any, b: Any, comparison: str, tolerance: float = 0.0, ignore_case: bool = False
    ) -> io.NodeOutput:
        how = Comparison(comparison)
        left, right = value_of("a", a), value_of("b", b)
        return io.NodeOutput(compare(left, right, how, tolerance, ignore_case=ignore_case))


NODES = [LunaCompare]

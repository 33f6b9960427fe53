"""Luna Expression: computes what is written, as number, truth value and text."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ...utils.expressions.evaluating import evaluate
from ...utils.expressions.results import TYPES, NoSuchTypeError, results
from ...utils.expressions.values import shown
from ...utils.prompt_graph import connected_outputs
from ..prompt_context import graph_of
from ..schema import node_schema
from ..seed_inputs import still_seed_input
from .value_inputs import value_inputs, values_of


class LunaExpression(io.ComfyNode):
    """Numbers, texts and truth values from an expression."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaExpression",
            display_name="Luna Expression",
            category="Luna/Logic",
            description="Computes an expression such as ceil_to(a.width * 2, 64): numbers, texts, truth values, sizes "
            "of images, masks and latents, and numbers by chance that a seed decides. It can do nothing but "
            "compute, so that workflows of strangers are safe to open.",
            search_aliases=["math", "calculator", "formula", "evaluate", "image size"],
            inputs=[
                io.String.Input(
                    "expression",
                    default="a + b",
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="An expression, or lines of name = expression. Lines named int, float, boolean or string "
                    "go to that output; the last line goes to the others.",
                ),
                *value_inputs(),
                still_seed_input(),
            ],
            outputs=[
                io.Int.Output("int", tooltip="The result as a whole number, rounded."),
                io.Float.Output("float", tooltip="The result as a number."),
                io.Boolean.Output("boolean", tooltip="Whether it is not 0, empty or false."),
                io.String.Output("string", tooltip="The result as a text."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, expression: str, seed: int = 0, **inputs: Any) -> io.NodeOutput:
        named = evaluate(expression, values_of(inputs), seed)
        found = results(named)
        used = connected_outputs(graph_of(cls.hidden.dynprompt), cls.hidden.unique_id)
        outputs = [_output(found[kind], place in used) for place, kind in enumerate(TYPES)]
        return io.NodeOutput(*outputs, ui=ui.PreviewText(_told(named)))


def _output(value: Any, used: bool) -> Any:
    """Return an output's value. One that there is not is an error for those who use it.

    The output may be connected later, while this run's results are still kept: then the error waits there.
    """
    if not isinstance(value, NoSuchTypeError):
        return value
    if used:
        raise value
    return ExecutionBlocker(str(value))


def _told(named: dict[str, Any]) -> str:
    lines = [f"{name} = {shown(value)}" for name, value in named.items() if name]
    return "\n".join(lines) if lines else shown(named[""])


NODES = [LunaExpression]

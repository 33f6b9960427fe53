"""Luna Text Format: a text with values in its braces."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...utils.expressions.formatting import format_text
from ..logic.value_inputs import value_inputs, values_of
from ..schema import node_schema
from ..seed_inputs import still_seed_input


class LunaTextFormat(io.ComfyNode):
    """Fills braces by values and expressions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaTextFormat",
            display_name="Luna Text Format",
            category="Luna/Text",
            description="Fills {a}, {b:.2f} or {a.width * 2} of a text by values and expressions, for prompts, labels "
            "and file names. What expressions can do is on the help page of Luna Expression.",
            search_aliases=["string format", "template", "concatenate", "f-string", "text join"],
            inputs=[
                io.String.Input(
                    "template",
                    default="{a}",
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="Text with {value} or {expression:form} in it; {{ and }} are braces.",
                ),
                *value_inputs(),
                still_seed_input(),
            ],
            outputs=[io.String.Output("text", tooltip="The text with its braces filled in.")],
        )

    @classmethod
    def execute(cls, template: str, seed: int = 0, **inputs: Any) -> io.NodeOutput:
        text = format_text(template, values_of(inputs), seed)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


NODES = [LunaTextFormat]

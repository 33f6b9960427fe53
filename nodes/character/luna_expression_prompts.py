"""Luna Expression Prompt Builder and Luna Expression List: what faces of a character are to be drawn."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ...utils.character.expression_names import Preset, names_of
from ...utils.character.expression_prompts import (
    Family,
    Portrait,
    Subject,
    file_name,
    negative_for,
    prompt_for,
    read_grid,
)
from ..schema import node_schema
from ..seed_inputs import index_input


class LunaExpressionPromptBuilder(io.ComfyNode):
    """A prompt for one face, one pose, or a sheet of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaExpressionPromptBuilder",
            display_name="🌙 Luna Expression Prompt Builder",
            category="Luna/Character",
            description="Writes the prompt for a character's facial expression, pose, or sheet of expressions, in the "
            "form that the model's family likes, with a file name for the picture.",
            search_aliases=["character sheet", "sillytavern", "sprite", "facial expression"],
            inputs=[
                io.String.Input(
                    "character_description",
                    default="",
                    multiline=True,
                    tooltip="What the character looks like.",
                ),
                io.String.Input(
                    "expression", default="neutral", tooltip="The face or the pose, such as joy."
                ),
                io.Combo.Input(
                    "model_type",
                    options=[family.value for family in Family],
                    default=Family.ILLUSTRIOUS.value,
                    tooltip="How the prompt is written: tags for illustrious, sentences for flux, phrases for sdxl.",
                ),
                _text("character_name", "The character's name, for the file's name."),
                _text("additional_prompt", "What else the prompt says."),
                _text("negative_additions", "What else the negative prompt says."),
                io.Combo.Input(
                    "mode",
                    options=[subject.value for subject in Subject],
                    default=Subject.EXPRESSION.value,
                    optional=True,
                    tooltip="What is drawn: a face, a pose of the whole body, or a sheet of cells.",
                ),
                io.String.Input(
                    "grid_size",
                    default="4x4",
                    optional=True,
                    tooltip="For a sheet: columns x rows, at most 10 each.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The prompt."),
                io.String.Output("filename", tooltip="name_expression, for a saver."),
                io.String.Output("negative", tooltip="The negative prompt."),
            ],
        )

    @classmethod
    def execute(
        cls,
        character_description: str,
        expression: str,
        model_type: str,
        character_name: str = "",
        additional_prompt: str = "",
        negative_additions: str = "",
        mode: str = Subject.EXPRESSION.value,
        grid_size: str = "4x4",
    ) -> io.NodeOutput:
        subject = Subject(mode)
        grid = read_grid(grid_size) if subject is Subject.SHEET else (1, 1)
        portrait = Portrait(
            character_description, expression, character_name, additional_prompt, grid
        )
        prompt = prompt_for(portrait, Family(model_type), subject)
        name = file_name(character_name, expression)
        negative = negative_for(subject, negative_additions)
        return io.NodeOutput(prompt, name, negative, ui=ui.PreviewText(prompt))


class LunaExpressionList(io.ComfyNode):
    """Names of expressions, one after the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaExpressionList",
            display_name="🌙 Luna Expression List",
            category="Luna/Character",
            description="Gives the names of expressions or poses: all as lines, and the one that the index says, so "
            "that every run draws the next.",
            search_aliases=["sillytavern expressions", "emotion list", "pose list"],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=[preset.value for preset in Preset],
                    default=Preset.SILLYTAVERN.value,
                    tooltip="sillytavern: its 28 names and wonder. extended: 18 more. poses: 20 of the whole body. "
                    "custom: your own.",
                ),
                index_input("Which one, from 0. Behind the last comes the first again."),
                io.String.Input(
                    "custom_list",
                    default="",
                    multiline=True,
                    optional=True,
                    dynamic_prompts=False,
                    tooltip="For custom: one name a line.",
                ),
            ],
            outputs=[
                io.String.Output("expression_list", tooltip="All names, one a line."),
                io.String.Output("current_expression", tooltip="The one that the index says."),
                io.Int.Output("count", tooltip="How many there are."),
            ],
        )

    @classmethod
    def execute(cls, preset: str, index: int, custom_list: str = "") -> io.NodeOutput:
        names = names_of(Preset(preset), custom_list)
        current = names[index % len(names)]
        return io.NodeOutput("\n".join(names), current, len(names), ui=ui.PreviewText(current))


def _text(name: str, tooltip: str) -> io.Input:
    return io.String.Input(name, default="", optional=True, tooltip=tooltip)


NODES = [LunaExpressionPromptBuilder, LunaExpressionList]

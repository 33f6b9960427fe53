"""Luna Expression Slicer & Saver: a sheet → a picture for each expression."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import comfy.model_management
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ...utils.character.expression_names import SILLYTAVERN, Preset, names_of
from ...utils.character.expression_prompts import file_name
from ...utils.character.sheets import Cell, Grid, cut, file_names
from ...utils.errors import InputError
from ...utils.files_below import place_below
from ...utils.whole_file import write_whole
from ..schema import node_schema

EXPRESSIONS, CHARACTERS = "expressions", "sillytavern"
# Folders below the chosen one; SillyTavern looks for characters/<name>.
_FOLDERS = {EXPRESSIONS: "expressions", CHARACTERS: "characters"}


class LunaExpressionSlicerSaver(io.ComfyNode):
    """Cuts sheets of expressions, and saves the pictures under the expressions' names."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaExpressionSlicerSaver",
            display_name="Luna Expression Slicer & Saver",
            category="Luna/Character",
            description="Cuts a sheet of equal cells into pictures, names them by a list of expressions, and saves "
            "them in a folder for the character, as SillyTavern and others want them.",
            search_aliases=[
                "sprite sheet",
                "slice grid",
                "sillytavern",
                "split image",
                "contact sheet",
            ],
            inputs=[
                io.Image.Input(
                    "sheet_image",
                    tooltip="The sheet; of several, one goes on where the other ends.",
                ),
                io.String.Input("character_name", default="", tooltip="The folder's name."),
                _count("columns", "How many cells lie beside each other."),
                _count("rows", "How many cells lie below each other."),
                io.String.Input(
                    "expression_names",
                    default="",
                    multiline=True,
                    optional=True,
                    dynamic_prompts=False,
                    tooltip="A name for each cell, one a line, row by row. Cells without a name are left out. Empty: "
                    "SillyTavern's names.",
                ),
                io.String.Input(
                    "output_folder",
                    default="",
                    optional=True,
                    tooltip="A folder below ComfyUI's output folder; empty: that folder itself.",
                ),
                io.Combo.Input(
                    "format",
                    options=["png", "webp"],
                    default="png",
                    optional=True,
                    tooltip="Both keep every pixel; webp files are smaller.",
                ),
                io.Int.Input(
                    "padding",
                    default=0,
                    min=0,
                    max=50,
                    optional=True,
                    tooltip="Pixels that are cut off each side of a cell.",
                ),
                io.Boolean.Input(
                    "save_to_disk",
                    default=True,
                    optional=True,
                    tooltip="Save the pictures. Files of the same names are replaced.",
                ),
                io.Combo.Input(
                    "structure",
                    options=[EXPRESSIONS, CHARACTERS],
                    default=EXPRESSIONS,
                    optional=True,
                    tooltip="expressions: expressions/<character>. sillytavern: characters/<character>.",
                ),
            ],
            outputs=[
                io.Image.Output("images", is_output_list=True, tooltip="The pictures."),
                io.String.Output(
                    "expression_names",
                    is_output_list=True,
                    tooltip="Their names, in the same order.",
                ),
                io.String.Output(
                    "output_folder", tooltip="Where they are saved; empty: they are not."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        sheet_image: torch.Tensor,
        character_name: str,
        columns: int,
        rows: int,
        expression_names: str = "",
        output_folder: str = "",
        format: str = "png",
        padding: int = 0,
        save_to_disk: bool = True,
        structure: str = EXPRESSIONS,
    ) -> io.NodeOutput:
        wanted = expression_names.strip()
        names = names_of(Preset.CUSTOM, wanted) if wanted else SILLYTAVERN
        sheets, height, width = sheet_image.shape[:3]
        cells = cut((sheets, height, width), Grid(columns, rows, padding), names)
        pictures = [_cut_out(sheet_image, cell) for cell in cells]
        folder = ""
        if save_to_disk:
            place = _place(output_folder, structure, character_name)
            _save(pictures, [cell.name for cell in cells], place, format)
            folder = str(place)
        return io.NodeOutput(pictures, [cell.name for cell in cells], folder)


def _count(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=4, min=1, max=10, tooltip=tooltip)


def _cut_out(sheets: torch.Tensor, cell: Cell) -> torch.Tensor:
    part = sheets[cell.sheet : cell.sheet + 1, cell.top : cell.bottom, cell.left : cell.right]
    return part.clone()


def _place(folder: str, structure: str, character: str) -> Path:
    if not character.strip():
        raise InputError("The character has no name.", "Write it: it becomes the folder's name.")
    below = place_below(folder_paths.get_output_directory(), folder)
    return place_below(below, f"{_FOLDERS[structure]}/{file_name(character)}")


def _save(pictures: list[torch.Tensor], names: list[str], folder: Path, ending: str) -> None:
    for picture, name in zip(pictures, file_names(names), strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        pixels = (picture[0].cpu().float().numpy() * 255.0).round().clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        with BytesIO() as file:
            image.save(file, ending.upper(), lossless=True)
            write_whole(folder / f"{name}.{ending}", file.getvalue())


NODES = [LunaExpressionSlicerSaver]

"""Luna Batch Prompt Extractor: a folder of pictures → a list of their prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
from comfy_api.latest import io, ui

from ...utils.errors import InputError
from ...utils.prompt_lists.writing import (
    Extraction,
    as_json,
    captions,
    extract,
    pictures_in,
)
from ...utils.whole_file import write_whole
from ..schema import node_schema
from .list_files import list_place, picture_folder

MAX_TOLD = 20  # problems in the status; the rest is counted


class LunaBatchPromptExtractor(io.ComfyNode):
    """Reads what pictures say about how they were made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaBatchPromptExtractor",
            display_name="Luna Batch Prompt Extractor",
            category="Luna/Prompt Lists",
            description="Reads prompts, LoRAs, seeds and sizes out of PNG, JPEG and WebP pictures of ComfyUI, "
            "AUTOMATIC1111, Forge and others, and writes a list that Luna Batch Prompt Loader reads. In "
            "ComfyUI's graphs it follows the links back from the sampler.",
            search_aliases=["png info", "read metadata", "exif", "captions", "prompt from image"],
            inputs=[
                io.String.Input(
                    "image_directory",
                    default="",
                    tooltip="A folder below ComfyUI's input or output folder, or below others that "
                    "extra_model_paths.yaml names as 'prompt_pictures'. Empty: the input folder.",
                ),
                io.String.Input(
                    "output_file",
                    default="prompts_metadata.json",
                    tooltip="The list that is written: a name that ends in .json.",
                ),
                _switch("save_to_input_dir", True, "Write it into ComfyUI's input folder."),
                io.String.Input(
                    "output_directory",
                    default="",
                    tooltip="Else: a folder below ComfyUI's output folder; empty: that folder itself.",
                ),
                _switch(
                    "overwrite", True, "Replace a list of the same name. Off: that is an error."
                ),
                _switch("include_path", True, "Write into the list where each picture is."),
                _switch(
                    "export_captions",
                    False,
                    "Write each prompt beside its picture, as <name>.txt for training. Captions that are there "
                    "stay.",
                    optional=True,
                ),
            ],
            outputs=[
                io.String.Output(
                    "status", tooltip="What was done, and which pictures gave nothing."
                ),
                io.Int.Output("images_scanned", tooltip="How many pictures the folder has."),
                io.Int.Output("images_extracted", tooltip="How many of them gave a prompt."),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # equal to nothing: files come and go, so every run looks again

    @classmethod
    def execute(
        cls,
        image_directory: str,
        output_file: str,
        save_to_input_dir: bool,
        output_directory: str,
        overwrite: bool,
        include_path: bool,
        export_captions: bool = False,
    ) -> io.NodeOutput:
        place = list_place(output_file, save_to_input_dir, output_directory)
        if place.exists() and not overwrite:
            raise InputError(
                f"'{output_file}' is there already.", "Switch overwrite on, or choose another name."
            )
        pictures = pictures_in(picture_folder(image_directory))
        found = extract(pictures, include_path, _progress(len(pictures)))
        write_whole(place, as_json(found.records))
        status = _status(found, place)
        if export_captions:
            status += f"\n{_write_captions(found)}"
        shown = ui.PreviewText(status)
        return io.NodeOutput(status, found.scanned, len(found.records), ui=shown)


def _switch(name: str, default: bool, tooltip: str, optional: bool = False) -> io.Input:
    return io.Boolean.Input(name, default=default, optional=optional, tooltip=tooltip)


def _progress(total: int) -> Callable[[int, int], None]:
    bar = comfy.utils.ProgressBar(max(1, total))

    def step(done: int, _: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    return step


def _write_captions(found: Extraction) -> str:
    wanted = captions(found)
    new = {path: text for path, text in wanted.items() if not path.exists()}
    for path, text in new.items():
        comfy.model_management.throw_exception_if_processing_interrupted()
        write_whole(path, text)
    return f"{len(new)} captions written, {len(wanted) - len(new)} were there."


def _status(found: Extraction, place: Path) -> str:
    lines = [f"{len(found.records)} of {found.scanned} pictures gave a prompt: '{place.name}'."]
    lines += found.problems[:MAX_TOLD]
    if len(found.problems) > MAX_TOLD:
        lines.append(f"And {len(found.problems) - MAX_TOLD} more.")
    return "\n".join(lines)


NODES = [LunaBatchPromptExtractor]

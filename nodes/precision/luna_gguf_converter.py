"""Luna GGUF Converter and Luna GGUF Batch Converter: diffusion models as GGUF files."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...utils.conversion.batch import Batch, convert_folder
from ...utils.conversion.converting import convert_to, converted_once
from ...utils.conversion.gguf_recipes import is_made_here
from ...utils.conversion.locations import chosen_file
from ...utils.conversion.targets import GGUF, TARGETS
from ..schema import node_schema
from .model_places import model_folder, source_file, source_folder, watched

_RECIPES = [
    name.removeprefix("gguf_")
    for name, target in TARGETS.items()
    if target.container == GGUF and is_made_here(name)
]
_ADVICE = " ".join(f"{recipe}: {TARGETS[f'gguf_{recipe}'].advice}" for recipe in _RECIPES)


class LunaGGUFConverter(io.ComfyNode):
    """Converts one model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaGGUFConverter",
            display_name="Luna GGUF Converter",
            category="Luna/Precision",
            description="Writes the diffusion model of a checkpoint or of a file of its own as GGUF, K types such as "
            "Q4_K_M included. A file that was made of the same source before is found, not made again.",
            search_aliases=["quantize", "quantise", "gguf", "convert", "q4_k_m", "q8_0"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "source_checkpoint",
                    default="",
                    tooltip="A checkpoint or diffusion model, as safetensors or as GGUF in 16 or 32 bits: its name as the "
                    "loaders list it, or its path below ComfyUI's folders for them.",
                ),
                _folder_input(),
                _recipe_input("Q4_K_M"),
                io.String.Input(
                    "output_filename",
                    default="",
                    optional=True,
                    tooltip="A name of your own for the file; empty: that of the source with the quantization "
                    "behind it.",
                ),
            ],
            outputs=[
                io.String.Output("output_path", tooltip="Where the file is."),
                io.Int.Output("tensor_count", tooltip="How many tensors are in it."),
                io.Float.Output("size_mb", tooltip="Its size in MB of a million bytes."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # the file may be gone, and it is found quickly

    @classmethod
    def execute(
        cls,
        source_checkpoint: str,
        output_directory: str,
        quantization: str,
        output_filename: str = "",
    ) -> io.NodeOutput:
        source, folder = source_file(source_checkpoint), model_folder(output_directory)
        target = TARGETS[f"gguf_{quantization}"]
        output = chosen_file(source, target, folder, output_directory.strip(), output_filename)
        convert = converted_once if output == folder else convert_to
        with watched() as run:
            made = convert(source, target.name, output, run)
        size = made.path.stat().st_size / 1e6
        done = f"{'Made' if made.made else 'Was there'}: {made.path}, {size:.1f} MB"
        text = "\n".join((done, *made.notes))
        return io.NodeOutput(
            str(made.path), len(made.sidecar.layers), size, ui=ui.PreviewText(text)
        )


class LunaGGUFBatchConverter(io.ComfyNode):
    """Converts the models of a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaGGUFBatchConverter",
            display_name="Luna GGUF Batch Converter",
            category="Luna/Precision",
            description="Writes the diffusion models of all safetensors files in a folder as GGUF, and says of each "
            "what came of it. Folders below it are left out.",
            search_aliases=["quantize", "quantise", "gguf", "convert folder", "batch"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "source_directory",
                    default="",
                    tooltip="A folder of models: its path, or its path from ComfyUI's folder for checkpoints or "
                    "diffusion models. Empty: the first folder for checkpoints.",
                ),
                _folder_input(),
                _recipe_input("Q8_0"),
                io.Int.Input(
                    "max_files",
                    default=10,
                    min=1,
                    max=100,
                    tooltip="How many files are converted at most; those that are there already do not count.",
                ),
                io.Boolean.Input(
                    "skip_existing",
                    default=True,
                    optional=True,
                    tooltip="Leave out what was made of the same file before. Off: make it again.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", tooltip="A line for each file: OK, SKIP or FAIL, and why."
                ),
                io.Int.Output("converted", tooltip="How many files were made."),
                io.Int.Output("failed", tooltip="How many could not be made."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # what is in the folder may have changed

    @classmethod
    def execute(
        cls,
        source_directory: str,
        output_directory: str,
        quantization: str,
        max_files: int,
        skip_existing: bool = True,
    ) -> io.NodeOutput:
        sources, folder = source_folder(source_directory), model_folder(output_directory)
        batch = Batch(sources, f"gguf_{quantization}", folder, max_files, skip_existing)
        with watched() as run:
            report = convert_folder(batch, run)
        text = str(report)
        return io.NodeOutput(text, report.converted, report.failed, ui=ui.PreviewText(text))


def _folder_input() -> io.Input:
    return io.String.Input(
        "output_directory",
        default="",
        tooltip="A folder below ComfyUI's folders for diffusion models, which need not be there yet. Empty: the "
        "folder gguf in models/unet, where the Luna Model Router finds it too.",
    )


def _recipe_input(default: str) -> io.Input:
    return io.Combo.Input("quantization", options=_RECIPES, default=default, tooltip=_ADVICE)


NODES = [LunaGGUFConverter, LunaGGUFBatchConverter]

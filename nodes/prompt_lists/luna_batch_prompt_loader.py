"""Luna Batch Prompt Loader: entry by entry of a list of prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ...utils.log import get_logger
from ...utils.loras.stack import to_tuples
from ...utils.prompt_lists.choosing import at_index, first_open, picture_names, seed_for
from ...utils.prompt_lists.lora_modes import LoraOutput, place_loras
from .. import io_types
from ..lora.lora_files import lora_names
from ..result_notes import note_again, note_result
from ..schema import node_schema
from ..seed_inputs import index_input
from .list_files import NO_FILE, done_below_output, list_names, list_stamp, load_list

log = get_logger("prompt_lists")
PREFIX = "prompt_list/"
INCLUDE_ALL, ONLY_EXISTING = "include_all", "only_existing"


class LunaBatchPromptLoader(io.ComfyNode):
    """One entry of a file of prompts for each run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaBatchPromptLoader",
            display_name="Luna Batch Prompt Loader",
            category="Luna/Prompt Lists",
            description="Gives the entries of a list of prompts one after the other: CSV, JSON, JSON lines or YAML "
            "of ComfyUI's input folder, with prompt, negative prompt, LoRAs, seed and size. It can leave out what "
            "has its picture already, so that a long run goes on where it stopped.",
            search_aliases=["prompt list", "csv", "prompts from file", "batch prompts", "jsonl"],
            inputs=_inputs(),
            outputs=[
                io.String.Output("positive", tooltip="The prompt, with LoRA tags or without."),
                io.String.Output("negative", tooltip="The negative prompt."),
                io_types.LoraStack.Output("lora_stack", tooltip="The LoRAs, in the list's order."),
                io.Int.Output("seed", tooltip="The entry's seed, or the one that was drawn."),
                io.Int.Output(
                    "current_index", tooltip="The entry's number, from 0; -1: none is left."
                ),
                io.Int.Output("total_entries", tooltip="How many entries the list has."),
                io.Boolean.Output("list_complete", tooltip="This is the last entry to be done."),
                io.Int.Output("width", tooltip="In pixels."),
                io.Int.Output("height", tooltip="In pixels."),
                io.String.Output(
                    "filename_prefix",
                    tooltip="What the entry's picture is called: for the input of this name of Save Image.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        json_file: str | None = None,
        skip_existing: bool | None = False,
        base_seed: int | None = -1,
        **_: Any,
    ) -> Any:
        return note_again(cls.hidden, _stamp(json_file, skip_existing, base_seed))

    @classmethod
    def execute(
        cls,
        json_file: str,
        index: int,
        lora_output: str,
        lora_validation: str,
        skip_existing: bool = False,
        filename_prefix: str = PREFIX,
        base_seed: int = -1,
        default_width: int = 1024,
        default_height: int = 1024,
    ) -> io.NodeOutput:
        listed = load_list(json_file)
        names = picture_names(listed.entries)
        chosen = at_index(index, len(names))
        if skip_existing:
            chosen = first_open(index, done_below_output(filename_prefix, names))
        if chosen.index < 0:
            return _nothing_left(chosen.total)
        entry = listed.entries[chosen.index]
        seed = seed_for(entry, chosen.index, base_seed)
        width, height = entry.width or default_width, entry.height or default_height
        known = lora_names()
        placed = place_loras(
            entry, known, LoraOutput(lora_output), lora_validation == ONLY_EXISTING
        )
        notes = [note for note in (listed.note, *placed.notes) if note]
        for note in notes:
            log.warning("[Luna] Batch Prompt Loader, entry %d: %s", chosen.index, note)
        shown = "\n".join([f"{chosen.index + 1} of {chosen.total}", placed.positive, *notes])
        outputs: dict[int, str | int] = {0: placed.positive, 1: entry.negative}
        outputs |= {3: seed, 7: width, 8: height}
        note_result(cls.hidden, outputs)
        return io.NodeOutput(
            placed.positive,
            entry.negative,
            to_tuples(placed.stack),
            seed,
            chosen.index,
            chosen.total,
            chosen.complete,
            width,
            height,
            f"{filename_prefix}{names[chosen.index]}",
            ui=ui.PreviewText(shown),
        )


def _stamp(json_file: str | None, skip_existing: bool | None, base_seed: int | None) -> Any:
    """Return what decides whether the node runs again; None is an input that is linked, and not known yet."""
    if skip_existing is not False or json_file is None:
        return float("nan")  # equal to nothing: pictures come and go, so every run looks again
    stamp = list_stamp(json_file)
    draws = base_seed in (-1, None) and bool(stamp)
    if draws and any(entry.seed is None for entry in load_list(json_file).entries):
        return float("nan")  # a seed is drawn for every run
    return stamp


def _nothing_left(total: int) -> io.NodeOutput:
    """Stop what would make a picture, and let through what says that all is done."""
    stop = ExecutionBlocker(None)
    shown = ui.PreviewText(f"All {total} entries have their pictures.")
    return io.NodeOutput(stop, stop, stop, stop, -1, total, True, stop, stop, stop, ui=shown)


def _inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "json_file",
            options=[NO_FILE, *list_names()],
            default=NO_FILE,
            tooltip="A CSV, JSON, JSON lines or YAML file of ComfyUI's input folder.",
        ),
        index_input("The entry's number, from 0. Behind the last comes the first again."),
        io.Combo.Input(
            "lora_output",
            options=[mode.value for mode in LoraOutput],
            default=LoraOutput.STACK_ONLY.value,
            tooltip="stack_only: LoRAs leave the prompt for lora_stack. inline_only: all stand in the prompt as "
            "<lora:name:weight>. both: in both.",
        ),
        io.Combo.Input(
            "lora_validation",
            options=[INCLUDE_ALL, ONLY_EXISTING],
            default=INCLUDE_ALL,
            tooltip="only_existing: leaves out LoRAs that are not on this machine, and says which.",
        ),
        io.Boolean.Input(
            "skip_existing",
            default=False,
            optional=True,
            tooltip="Goes on to the next entry that has no picture in ComfyUI's output folder. When all have "
            "theirs, nothing is made.",
        ),
        io.String.Input(
            "filename_prefix",
            default=PREFIX,
            optional=True,
            tooltip="What stands before the picture's name; it may have folders below ComfyUI's output folder.",
        ),
        io.Int.Input(
            "base_seed",
            default=-1,
            min=-1,
            max=0xFFFFFFFFFFFFFFFF,
            optional=True,
            tooltip="For entries without a seed, or with -1. -1: another seed for every run. Else this and the "
            "entry's number decide.",
        ),
        _side("default_width"),
        _side("default_height"),
    ]


def _side(name: str) -> io.Input:
    return io.Int.Input(
        name,
        default=1024,
        min=16,
        max=16384,
        step=8,
        optional=True,
        tooltip="In pixels, for entries that have none.",
    )


NODES = [LunaBatchPromptLoader]

"""Luna Text Processor: one line of a text file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ...utils.errors import InputError
from ...utils.files_below import find_below
from ...utils.log import get_logger
from ...utils.prompts.lines import LineChoice, LineRange, choose_line, joined, lines_of
from ...utils.wildcards.decoding import decode
from ...utils.wildcards.errors import WildcardError
from ..schema import node_schema
from ..seed_inputs import index_input, seed_input
from ..wildcard_folders import WILDCARDS, register_wildcards

register_wildcards()
log = get_logger("text")
PREPEND, APPEND = "prepend", "append"


class LunaTextProcessor(io.ComfyNode):
    """A line for each run. It remembers nothing: index or seed say which."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaTextProcessor",
            display_name="Luna Text Processor",
            category="Luna/Text",
            description="Takes one line of a text file, by its number or as a seed decides, and joins it with "
            "a text of your own. Empty lines and those that begin with # do not count.",
            search_aliases=["text file", "line from file", "load text", "random line"],
            inputs=_inputs(),
            outputs=[
                io.String.Output("text", tooltip="The line, joined with the additional text."),
                io.Int.Output(
                    "index", tooltip="The line's number, from 0, among those that count."
                ),
                io.String.Output("filename", tooltip="The file's name without its ending."),
                io.Int.Output("total", tooltip="How many lines take part."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, text_file: str | None = None, **_: Any) -> Any:
        if text_file is None:
            return float("nan")  # linked: which file it will be is not known yet
        state = _path_of(text_file).stat()
        return [state.st_size, state.st_mtime_ns]

    @classmethod
    def execute(
        cls,
        text_file: str,
        selection_mode: str,
        index: int,
        seed: int,
        start_index: int,
        stop_index: int,
        step: int,
        additional_text: str,
        delimiter: str,
        concat_mode: str,
    ) -> io.NodeOutput:
        choice = LineChoice(selection_mode)
        number = seed if choice is LineChoice.RANDOM else index
        within = LineRange(start_index, stop_index, step)
        line = choose_line(lines_of(_text_of(text_file)), choice, number, within, text_file)
        text = joined(line.text, additional_text, delimiter, before=concat_mode == PREPEND)
        name = Path(text_file).stem
        return io.NodeOutput(text, line.index, name, line.total, ui=ui.PreviewText(text))


def _inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "text_file",
            default="",
            tooltip="A file below ComfyUI's input folder or models/wildcards, with its ending.",
        ),
        io.Combo.Input(
            "selection_mode",
            options=[choice.value for choice in LineChoice],
            default=LineChoice.RANDOM.value,
            tooltip="random: the seed decides. sequential: the index does.",
        ),
        index_input(
            "sequential: which line, counted from start_index. Behind the last comes the first again."
        ),
        seed_input(),
        io.Int.Input(
            "start_index", default=0, min=0, max=10**9, tooltip="The first line that takes part."
        ),
        io.Int.Input(
            "stop_index",
            default=-1,
            min=-1,
            max=10**9,
            tooltip="The first line that does not. -1: all to the end take part.",
        ),
        io.Int.Input(
            "step", default=1, min=1, max=10**9, tooltip="2 takes every other line, and so on."
        ),
        io.String.Input(
            "additional_text",
            default="",
            multiline=True,
            dynamic_prompts=False,
            tooltip="A text beside the line.",
        ),
        io.String.Input("delimiter", default=", ", tooltip="What stands between the two."),
        io.Combo.Input(
            "concat_mode",
            options=[PREPEND, APPEND],
            default=PREPEND,
            tooltip="Whether the additional text comes before the line or behind it.",
        ),
    ]


def _path_of(name: str) -> Path:
    if not name.strip():
        raise InputError("No text file is named.", "Write its name into text_file.")
    roots = [folder_paths.get_input_directory(), *folder_paths.get_folder_paths(WILDCARDS)]
    return find_below(roots, name.strip())


def _text_of(name: str) -> str:
    try:
        text, note = decode(_path_of(name).read_bytes())
    except WildcardError as error:
        raise InputError(f"'{name}' cannot be read: {error}.") from error
    except OSError as error:
        raise InputError(
            f"'{name}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if note:
        log.warning("[Luna] Text Processor: '%s': %s.", name, note)
    return text


NODES = [LunaTextProcessor]

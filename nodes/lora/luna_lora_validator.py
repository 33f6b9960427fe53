"""Luna LoRA Validator: are the LoRAs of a list there, and are LoRA files in order?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import comfy.model_management
from comfy_api.latest import io, ui

from ...utils.errors import InputError
from ...utils.loras.inspection import LoraFile, inspect_lora
from ...utils.loras.prompt_lists import WantedLora, find_wanted, names_in_list
from ...utils.loras.reports import file_report, list_report
from ...utils.loras.stack import read_stack
from .. import io_types
from ..schema import need_dynamic_combo, node_schema
from .civitai_search import Pace, find_links
from .lora_files import NO_FILE, lora_names, lora_path, prompt_list_names, prompt_list_path, text_of

need_dynamic_combo()
LIST, STACK, FILES = "list of prompts", "stack", "files"
ALL_FILES = "all"


class LunaLoRAValidator(io.ComfyNode):
    """Checks names against files, and files for damage."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLoRAValidator",
            display_name="Luna LoRA Validator",
            category="Luna/LoRA",
            description="Checks whether the LoRAs of a list or stack are on this machine, or opens the headers of "
            "LoRA files and tells rank, alpha, base model and element type, and which are damaged. It asks "
            "nobody outside this machine unless search_civitai is on.",
            search_aliases=["check lora", "missing lora", "corrupt lora", "lora info"],
            inputs=[
                io.DynamicCombo.Input(
                    "check",
                    options=[
                        io.DynamicCombo.Option(LIST, [_json_file()]),
                        io.DynamicCombo.Option(STACK, [_stack()]),
                        io.DynamicCombo.Option(FILES, [_lora_name()]),
                    ],
                    tooltip="What is checked: the LoRAs of a list of prompts, those of a stack, or LoRA files.",
                ),
                io.Boolean.Input(
                    "search_civitai",
                    default=False,
                    tooltip="Asks civitai.com for LoRAs that are missing, one every half second. Off: no network.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="Everything that was found."),
                io.String.Output(
                    "missing_loras", tooltip="Missing LoRAs, or files with problems: one a line."
                ),
                io.String.Output(
                    "civitai_links", tooltip="name: link, one a line; empty without a search."
                ),
                io.Int.Output(
                    "found_count", tooltip="LoRAs that are there, or files without problems."
                ),
                io.Int.Output(
                    "missing_count", tooltip="LoRAs that are missing, or files with problems."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # equal to nothing: files come and go, so every run looks again

    @classmethod
    def execute(cls, search_civitai: bool, check: dict[str, Any] | None = None) -> io.NodeOutput:
        if check is None:
            raise InputError("'check' is missing.", f"Give it as '{LIST}', '{STACK}' or '{FILES}'.")
        if check["check"] == FILES:
            return _answer_about(_inspected(check["lora_name"]))
        title, wanted = _wanted(check)
        report = list_report(title, wanted)
        missing = [each.name for each in wanted if not each.file]
        links: dict[str, str] = {}
        if search_civitai and missing:
            pace = Pace(check=comfy.model_management.throw_exception_if_processing_interrupted)
            links, problem = find_links(missing, pace)
            report += f"\n\n{problem}" if problem else ""
        listed = "\n".join(f"{name}: {link}" for name, link in links.items())
        return _output(report, missing, listed, len(wanted) - len(missing))


def _json_file() -> io.Input:
    return io.Combo.Input(
        "json_file",
        options=[NO_FILE, *prompt_list_names()],
        default=NO_FILE,
        tooltip="A JSON file of ComfyUI's input folder, with a list of prompts.",
    )


def _stack() -> io.Input:
    return io_types.LoraStack.Input("lora_stack", tooltip="The LoRAs to look for.")


def _lora_name() -> io.Input:
    return io.Combo.Input(
        "lora_name",
        options=[ALL_FILES, *lora_names()],
        default=ALL_FILES,
        tooltip="A file of models/loras, or all of them.",
    )


def _wanted(check: dict[str, Any]) -> tuple[str, Sequence[WantedLora]]:
    if check["check"] == STACK:
        uses = Counter(entry.name for entry in read_stack(check["lora_stack"]))
        return "stack", find_wanted(uses, lora_names())
    name = check["json_file"]
    if name == NO_FILE:
        raise InputError(
            "No list of prompts is chosen.",
            "Put a JSON file into ComfyUI's input folder, and choose it.",
        )
    return name, find_wanted(names_in_list(text_of(prompt_list_path(name)), name), lora_names())


def _inspected(name: str) -> list[LoraFile]:
    found = []
    for each in lora_names() if name == ALL_FILES else [name]:
        comfy.model_management.throw_exception_if_processing_interrupted()
        found.append(inspect_lora(lora_path(each), each))
    return found


def _answer_about(files: Sequence[LoraFile]) -> io.NodeOutput:
    bad = [file.name for file in files if file.problems]
    return _output(file_report(files), bad, "", len(files) - len(bad))


def _output(report: str, missing: Sequence[str], links: str, found: int) -> io.NodeOutput:
    return io.NodeOutput(
        report, "\n".join(missing), links, found, len(missing), ui=ui.PreviewText(report)
    )


NODES = [LunaLoRAValidator]

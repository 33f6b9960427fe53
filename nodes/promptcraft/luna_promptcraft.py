"""Luna PromptCraft: prompts from categories of items, and how they came about."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io, ui

from ...utils.promptcraft import Settings, craft, seed_of
from ...utils.promptcraft.lora_links import as_stack
from ...utils.promptcraft.report import as_json, formatted, shown
from .. import io_types
from ..lora.lora_files import lora_names
from ..result_notes import note_again, note_result
from ..schema import node_schema
from ..wildcard_folders import register_wildcards
from .craft_library import (
    inline_input,
    library_of,
    log_warnings,
    path_input,
    stamp_of,
)

register_wildcards()
TEMPLATE = "{setting}, 1girl, {clothing}, {action}"


class LunaPromptCraft(io.ComfyNode):
    """Fills a template from categories whose items take notice of each other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaPromptCraft",
            display_name="Luna PromptCraft",
            category="Luna/PromptCraft",
            description="Fills {category} and {category:sub.path} of a template from YAML and JSON files. Items "
            "have weights and tags; constraints decide what goes together, modifiers and expanders add "
            "details, and links bring LoRAs, embeddings and trigger words. The seed decides everything.",
            search_aliases=["wildcard", "prompt generator", "random prompt", "dynamic prompt"],
            inputs=[
                io.String.Input(
                    "template",
                    default=TEMPLATE,
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="Text with {category}, {category:sub.path}, __category__, {a|b} and all that "
                    "wildcards can be.",
                ),
                _seed(),
                path_input(),
                _switch("enable_constraints", "Rules about what goes together."),
                _switch("enable_modifiers", "Words behind a pick, such as 'cap, worn out'."),
                _switch("enable_expanders", "Details at the end of the prompt."),
                _switch("enable_lora_links", "LoRAs and embeddings that belong to picks."),
                _switch(
                    "add_trigger_words", "Put the linked LoRAs' trigger words into the prompt."
                ),
                inline_input(),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The prompt."),
                io.Int.Output("seed", tooltip="The seed that was used, also where it was -1."),
                io_types.LoraStack.Output(
                    "lora_stack", tooltip="The linked LoRAs, those of high priority first."
                ),
                io.String.Output("trigger_words", tooltip="Their trigger words, with commas."),
                io.String.Output("debug", tooltip="How the prompt came about, as JSON."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(
        cls, seed: int | None = 0, wildcards_path: str = "", inline_data: str = "", **_: Any
    ) -> Any:
        return note_again(cls.hidden, stamp_of(seed, wildcards_path, inline_data))

    @classmethod
    def execute(
        cls,
        template: str,
        seed: int,
        wildcards_path: str = "",
        enable_constraints: bool = True,
        enable_modifiers: bool = True,
        enable_expanders: bool = True,
        enable_lora_links: bool = True,
        add_trigger_words: bool = True,
        inline_data: str = "",
    ) -> io.NodeOutput:
        settings = Settings(
            enable_constraints,
            enable_modifiers,
            enable_expanders,
            enable_lora_links,
            add_trigger_words,
        )
        library = library_of(wildcards_path, inline_data)
        crafted = craft(template, seed_of(seed), library, settings)
        stack, missing = as_stack(crafted.linked.loras, lora_names())
        crafted = dataclasses.replace(crafted, warnings=(*crafted.warnings, *missing))
        log_warnings(crafted)
        triggers = ", ".join(crafted.linked.triggers)
        debug = as_json(crafted, wildcards_path)
        note_result(cls.hidden, {0: crafted.prompt, 1: crafted.seed, 3: triggers})
        preview = ui.PreviewText(shown(crafted))
        return io.NodeOutput(crafted.prompt, crafted.seed, stack, triggers, debug, ui=preview)


class LunaPromptCraftDebug(io.ComfyNode):
    """Shows how a prompt came about."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaPromptCraftDebug",
            display_name="Luna PromptCraft Debug",
            category="Luna/PromptCraft",
            description="Shows for people what Luna PromptCraft gives as 'debug': what was picked and from where, "
            "expansions, tags, LoRAs with weights, trigger words, warnings and settings.",
            search_aliases=["prompt debug", "wildcard debug", "explain prompt"],
            inputs=[
                io.String.Input(
                    "debug_json",
                    force_input=True,
                    tooltip="The output 'debug' of Luna PromptCraft.",
                ),
                _switch("show_paths", "Where each pick is from."),
                _switch("show_tags", "The tags of all picks."),
                _switch("show_loras", "LoRAs, embeddings and trigger words."),
            ],
            outputs=[io.String.Output("formatted", tooltip="The same as lines of text.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        debug_json: str,
        show_paths: bool = True,
        show_tags: bool = True,
        show_loras: bool = True,
    ) -> io.NodeOutput:
        text = formatted(debug_json, paths=show_paths, tags=show_tags, loras=show_loras)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def _seed() -> io.Input:
    return io.Int.Input(
        "seed",
        default=-1,
        min=-1,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Decides everything that is drawn; 0 is a seed like all others. -1: another one for every "
        "run, which comes out as 'seed'.",
    )


def _switch(name: str, tooltip: str) -> io.Input:
    return io.Boolean.Input(name, default=True, optional=True, tooltip=tooltip)


NODES = [LunaPromptCraft, LunaPromptCraftDebug]

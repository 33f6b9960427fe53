"""Luna Logic Resolver: a text whose markers become items that suit each other."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...utils.promptcraft import Settings, craft, tags_of
from ...utils.promptcraft.report import as_json, shown
from ..result_notes import note_again, note_result
from ..schema import node_schema
from ..seed_inputs import seed_input
from ..wildcard_folders import register_wildcards
from .craft_library import (
    inline_input,
    library_of,
    log_warnings,
    path_input,
    stamp_of,
)

register_wildcards()
_ITEMS_ONLY = Settings(False, False, False, False, False)


class LunaLogicResolver(io.ComfyNode):
    """Fills markers by the tags of items alone, and collects what the items bring with them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLogicResolver",
            display_name="🌙 Luna Logic Resolver",
            category="Luna/Text",
            description="Replaces __category__ in a text by items that the tags of earlier ones allow: blacklist, "
            "whitelist and requires_tags. Items may contain markers themselves, and bring payloads such "
            "as LoRA tags. It reads the same files as Luna PromptCraft, without rules between categories.",
            search_aliases=["logic prompt", "conditional wildcard", "tag logic", "wildcard"],
            inputs=[
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="Text with __category__ or {category:sub.path} in it.",
                ),
                seed_input(),
                io.String.Input(
                    "initial_context",
                    default="",
                    optional=True,
                    tooltip="Tags that are there from the start, with commas between them.",
                ),
                io.Boolean.Input(
                    "enable_payloads",
                    default=True,
                    optional=True,
                    tooltip="Collect the payloads of the items. Off: that output is empty.",
                ),
                path_input(),
                inline_input(),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The text with its markers replaced."),
                io.String.Output("payloads", tooltip="What the items brought, with commas."),
                io.String.Output("debug_info", tooltip="What was picked and why, as JSON."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(cls, wildcards_path: str = "", inline_data: str = "", **_: Any) -> Any:
        return note_again(cls.hidden, stamp_of(None, wildcards_path, inline_data))

    @classmethod
    def execute(
        cls,
        text: str,
        seed: int,
        initial_context: str = "",
        enable_payloads: bool = True,
        wildcards_path: str = "",
        inline_data: str = "",
    ) -> io.NodeOutput:
        library = library_of(wildcards_path, inline_data)
        tags = tags_of(initial_context.split(","))
        crafted = craft(text, seed, library, _ITEMS_ONLY, tags)
        log_warnings(crafted)
        payloads = ", ".join(crafted.payloads) if enable_payloads else ""
        debug = as_json(crafted, wildcards_path)
        note_result(cls.hidden, {0: crafted.prompt, 1: payloads})
        preview = ui.PreviewText(shown(crafted))
        return io.NodeOutput(crafted.prompt, payloads, debug, ui=preview)


NODES = [LunaLogicResolver]

"""Luna Wildcard Builder: a prompt with wildcards, LoRAs and embeddings, and a preview while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io, ui

from ...utils.loras.pool import as_tags
from ...utils.loras.stack import LoraEntry
from ...utils.prompts.building import Parts, tags_with
from ...utils.prompts.embeddings import EmbeddingUse, references
from ...utils.wildcards import Expansion, expand, find_dialect
from ...utils.wildcards.report import all_warnings, as_json, shown
from ..lora.lora_files import NO_FILE, embedding_names, lora_names
from ..result_notes import note_result
from ..schema import node_schema
from ..seed_inputs import seed_input
from ..wildcard_folders import register_wildcards
from .wildcard_inputs import (
    NOTE,
    dialect_input,
    directory_inputs,
    library_of,
    log_warnings,
    stamp_of,
    template_input,
)

register_wildcards()
LORAS = range(1, 5)
EMBEDDINGS = range(1, 4)


class LunaWildcardBuilder(io.ComfyNode):
    """A prompt from a template, and what goes around it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaWildcardBuilder",
            display_name="Luna Wildcard Builder",
            category="Luna/Wildcards",
            description="Puts a prompt together: prefix, embeddings, a text with wildcards, LoRA tags, suffix. While "
            "you write, the node shows what the next runs would give and how many combinations there are.",
            search_aliases=["wildcard preview", "prompt builder", "dynamic prompts", "wildcard"],
            inputs=[
                template_input(),
                seed_input(),
                *directory_inputs(),
                dialect_input(),
                io.String.Input(
                    "lora_string_input",
                    optional=True,
                    force_input=True,
                    tooltip="LoRA tags of another node, which come first.",
                ),
                *_lora_inputs(),
                *_embedding_inputs(),
                _plain("prefix", "What the prompt begins with; it is kept as it is."),
                _plain("suffix", "What the prompt ends with; it is kept as it is."),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The text with its wildcards replaced."),
                io.String.Output("loras_string", tooltip="The LoRA tags, with spaces."),
                io.String.Output("full_prompt", tooltip="Everything together, with commas."),
                io.String.Output("picks", tooltip="How the text came about, as JSON."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> Any:
        return stamp_of(lambda: _parts(values, _expand(values)).full(), values, cls.hidden)

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        expansion = _expand(values)
        parts = _parts(values, expansion)
        warnings = all_warnings([expansion])
        log_warnings("LunaWildcardBuilder", warnings)
        full = parts.full()
        outputs = {0: parts.prompt, 1: parts.loras, 2: full}
        note_result(cls.hidden, outputs, **{NOTE: full})
        picks = as_json(expansion, find_dialect(values.get("dialect", "luna")))
        preview = ui.PreviewText(shown([full], warnings))
        return io.NodeOutput(parts.prompt, parts.loras, full, picks, ui=preview)


def _expand(values: dict[str, Any]) -> Expansion:
    dialect = find_dialect(values.get("dialect", "luna"))
    return expand(values["prompt_template"], values["seed"], library_of(values), dialect)


def _parts(values: dict[str, Any], expansion: Expansion) -> Parts:
    tags = [as_tags(_loras(values), lora_names())]
    return Parts(
        prefix=values.get("prefix", ""),
        embeddings=references(_embeddings(values)),
        prompt=expansion.text,
        loras=tags_with(values.get("lora_string_input", ""), tags),
        suffix=values.get("suffix", ""),
    )


def _loras(values: dict[str, Any]) -> Iterator[LoraEntry]:
    for number in LORAS:
        name = values.get(f"lora_{number}", NO_FILE)
        if name != NO_FILE:
            weight = values.get(f"lora_{number}_weight", 1.0)
            yield LoraEntry(name, weight, weight)


def _embeddings(values: dict[str, Any]) -> Iterator[EmbeddingUse]:
    for number in EMBEDDINGS:
        name = values.get(f"embedding_{number}", NO_FILE)
        if name != NO_FILE:
            yield EmbeddingUse(name, 1.0)


def _lora_inputs() -> Iterator[io.Input]:
    for number in LORAS:
        yield _choice(f"lora_{number}", lora_names(), f"LoRA {number}.")
        yield io.Float.Input(
            f"lora_{number}_weight",
            default=1.0,
            min=-2.0,
            max=2.0,
            step=0.05,
            optional=True,
            tooltip=f"Weight of LoRA {number}.",
        )


def _embedding_inputs() -> Iterator[io.Input]:
    for number in EMBEDDINGS:
        yield _choice(f"embedding_{number}", embedding_names(), f"Embedding {number}.")


def _choice(name: str, files: list[str], tooltip: str) -> io.Input:
    return io.Combo.Input(
        name, options=[NO_FILE, *files], default=NO_FILE, optional=True, tooltip=tooltip
    )


def _plain(name: str, tooltip: str) -> io.Input:
    return io.String.Input(name, default="", optional=True, dynamic_prompts=False, tooltip=tooltip)


NODES = [LunaWildcardBuilder]

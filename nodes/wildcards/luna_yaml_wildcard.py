"""Luna YAML Wildcard and its batch: texts from a template with wildcards."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...utils.wildcards import Expansion, batch, expand, find_dialect
from ...utils.wildcards.different import different
from ...utils.wildcards.errors import Remark
from ...utils.wildcards.report import all_warnings, as_json, shown
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
_HIDDEN = [io.Hidden.unique_id, io.Hidden.dynprompt]
_SAME_AS_SEED = -1


class LunaYAMLWildcard(io.ComfyNode):
    """One text of the many that a template can become."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaYAMLWildcard",
            display_name="Luna YAML Wildcard",
            category="Luna/Wildcards",
            description="Replaces wildcards in a text: {a|b}, weights, {1-10}, __name__, {file:path}, variables "
            "and templates, from text, YAML and JSON files. The seed decides everything, also over the API; "
            "the result is shown on the node and saved in images. Unknown names stay and are reported.",
            search_aliases=["wildcard", "dynamic prompts", "random prompt", "yaml", "prompt list"],
            inputs=[
                template_input(),
                seed_input(),
                *directory_inputs(),
                dialect_input(),
                io.Int.Input(
                    "position",
                    default=_SAME_AS_SEED,
                    min=_SAME_AS_SEED,
                    max=0xFFFFFFFFFFFFFFFF,
                    optional=True,
                    tooltip="Which outcome {@a|b} and {!a|b} take, from 0 on. -1: the one with the seed's number.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", tooltip="The text."),
                io.String.Output(
                    "picks",
                    tooltip="How it came about, as JSON: every draw with its file, the seed, and the warnings.",
                ),
            ],
            hidden=_HIDDEN,
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> Any:
        return stamp_of(lambda: _expand(values).text, values, cls.hidden)

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        expansion = _expand(values)
        warnings = all_warnings([expansion])
        log_warnings("LunaYAMLWildcard", warnings)
        note_result(cls.hidden, {0: expansion.text}, **{NOTE: expansion.text})
        picks = as_json(expansion, _dialect(values))
        preview = ui.PreviewText(shown([expansion.text], warnings))
        return io.NodeOutput(expansion.text, picks, ui=preview)


class LunaYAMLWildcardBatch(io.ComfyNode):
    """Many texts of a template at once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaYAMLWildcardBatch",
            display_name="Luna YAML Wildcard Batch",
            category="Luna/Wildcards",
            description="Makes a list of texts from one template: whatever comes behind runs once for each. Text i "
            "has the seed + i and can be made again on its own; {@…} and {!…} go through their outcomes one after "
            "the other.",
            search_aliases=[
                *("wildcard batch", "prompt list", "combinatorial prompts"),
                *("dynamic prompts", "random prompts"),
            ],
            inputs=[
                template_input(),
                seed_input(),
                io.Int.Input(
                    "count", default=10, min=1, max=1000, tooltip="How many texts are made."
                ),
                io.Boolean.Input(
                    "unique_only",
                    default=True,
                    tooltip="No text twice: one that was there already is drawn again, with a seed of its own.",
                ),
                *directory_inputs(),
                dialect_input(),
            ],
            outputs=[
                io.String.Output("prompts", is_output_list=True, tooltip="The texts."),
                io.String.Output(
                    "picks",
                    is_output_list=True,
                    tooltip="How each came about, as JSON, with the seed and position that give it again.",
                ),
            ],
            hidden=_HIDDEN,
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> Any:
        return stamp_of(lambda: _joined(_batch(values)[0]), values, cls.hidden)

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        expansions, remarks = _batch(values)
        warnings = all_warnings(expansions, remarks)
        log_warnings("LunaYAMLWildcardBatch", warnings)
        note_result(cls.hidden, {}, **{NOTE: _joined(expansions)})
        texts = [expansion.text for expansion in expansions]
        picks = [as_json(expansion, _dialect(values)) for expansion in expansions]
        numbered = [f"{number}: {text}" for number, text in enumerate(texts)]
        return io.NodeOutput(texts, picks, ui=ui.PreviewText(shown(numbered, warnings)))


def _dialect(values: dict[str, Any]) -> Any:
    return find_dialect(values.get("dialect", "luna"))


def _expand(values: dict[str, Any]) -> Expansion:
    position = values.get("position", _SAME_AS_SEED)
    return expand(
        values["prompt_template"],
        values["seed"],
        library_of(values),
        _dialect(values),
        None if position == _SAME_AS_SEED else position,
    )


def _batch(values: dict[str, Any]) -> tuple[list[Expansion], tuple[Remark, ...]]:
    text, seed, count = values["prompt_template"], values["seed"], values["count"]
    library, dialect = library_of(values), _dialect(values)
    if values["unique_only"]:
        return different(text, seed, count, library, dialect)
    return batch(text, seed, count, library, dialect), ()


def _joined(expansions: list[Expansion]) -> str:
    return "\n".join(expansion.text for expansion in expansions)


NODES = [LunaYAMLWildcard, LunaYAMLWildcardBatch]

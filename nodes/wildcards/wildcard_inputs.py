"""The inputs that nodes with wildcards share, and what they all do with a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from comfy_api.latest import io

from ...utils.byte_lru import ByteLru
from ...utils.errors import InputError
from ...utils.log import get_logger
from ...utils.prompt_graph import lineage, linked_inputs
from ...utils.wildcards import DIALECTS, LUNA, Library
from ..prompt_context import graph_of, graph_that_runs
from ..wildcard_folders import wildcard_library

_DIRECTORIES = ("yaml_directory", "txt_wildcard_directory")
NOTE = "luna_wildcards"  # in the metadata of a node, in images that ComfyUI saves
MAX_REMEMBERED = 16 * 2**20  # characters of texts

# What came of nodes with linked inputs: (lineage, generation of the files) → text. For their metadata alone.
_texts: ByteLru[tuple[str, int], str] = ByteLru(MAX_REMEMBERED)

log = get_logger("wildcards")


def template_input(name: str = "prompt_template") -> io.Input:
    """Return the input for the text."""
    return io.String.Input(
        name,
        default="",
        multiline=True,
        dynamic_prompts=False,
        tooltip="Text with {a|b}, {1-10}, __name__, {file:path} and everything that wildcards can be.",
    )


def dialect_input() -> io.Input:
    """Return the input for the grammar."""
    return io.Combo.Input(
        "dialect",
        options=list(DIALECTS),
        default=LUNA.name,
        optional=True,
        tooltip="Which tool the text was written for. 'luna' knows every form.",
    )


def directory_inputs() -> list[io.Input]:
    """Return the inputs for the folders."""
    return [
        directory_input("The files come from here."),
        io.String.Input(
            "txt_wildcard_directory",
            default="",
            optional=True,
            tooltip="A second folder, for example for text files. Names are looked for in the first one first.",
        ),
    ]


def directory_input(what: str) -> io.Input:
    """Return the input for one folder."""
    return io.String.Input(
        "yaml_directory",
        default="",
        optional=True,
        tooltip=f"{what} A folder below models/wildcards, or below others that ComfyUI knows as "
        "'wildcards'. Empty: all of them.",
    )


def directories_of(values: dict[str, Any]) -> tuple[str, str]:
    """Return what was typed as folders."""
    yaml, text = (values.get(name, "") for name in _DIRECTORIES)
    return yaml, text


def library_of(values: dict[str, Any]) -> Library:
    """Return the library that the inputs name.

    Raises:
        InputError: A folder is none of those for wildcards.
    """
    return wildcard_library(*directories_of(values))


def log_warnings(node: str, warnings: Iterable[str]) -> None:
    """Write what was noticed into ComfyUI's log."""
    for warning in warnings:
        log.warning("[Luna] %s: %s", node, warning)


def stamp_of(roll: Callable[[], str], values: dict[str, Any], hidden: Any) -> Any:
    """Return what decides whether a node runs again: what would come out.

    So a changed file counts at once where it changes the text, and where it does not, nothing that comes
    behind the node has to run again. What comes out is noted for the metadata, also when ComfyUI then
    takes the node's result from its cache.

    Args:
        roll: Makes the text.
        values: The node's inputs; those that are linked are None here.
        hidden: The node's hidden inputs.
    """
    try:
        if any(values.get(name, "") is None for name in _DIRECTORIES):
            return math.nan  # which files there are is not known yet
        if any(value is None for value in values.values()):
            return _note_again(hidden, library_of(values).generation())
        text = roll()
    except InputError:
        return math.nan  # equal to nothing: the node runs, and says what is wrong
    note(graph_that_runs(), hidden.unique_id, text)
    return text


def _note_again(hidden: Any, generation: int) -> int:
    """Note what came of these inputs before, as ComfyUI may take it from its cache."""
    graph = graph_that_runs()
    text = _texts.get((lineage(graph, hidden.unique_id), generation))
    if text is not None:
        note(graph, hidden.unique_id, text)
    return generation


def note_result(hidden: Any, text: str, values: dict[str, Any]) -> None:
    """Write what came out into the prompt that ComfyUI saves in images."""
    graph = graph_of(hidden.dynprompt)
    note(graph, hidden.unique_id, text)
    if linked_inputs(graph, hidden.unique_id):
        key = lineage(graph, hidden.unique_id), library_of(values).generation()
        _texts.put(key, text, len(text))


def note(graph: Any, node_id: str, text: str) -> None:
    """Write a text into a node of a prompt, beside its inputs."""
    node = graph.get(node_id)
    if node is not None:
        node["_meta"] = {**(node.get("_meta") or {}), NOTE: text}

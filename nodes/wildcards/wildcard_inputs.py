"""The inputs that nodes with wildcards share, and what they all do with a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from comfy_api.latest import io

from ...utils.errors import InputError
from ...utils.log import get_logger
from ...utils.wildcards import DIALECTS, LUNA, Library
from ..result_notes import note_again
from ..wildcard_folders import wildcard_library

_DIRECTORIES = ("yaml_directory", "txt_wildcard_directory")
NOTE = "luna_wildcards"  # in the metadata of a node, in images that ComfyUI saves

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
    behind the node has to run again.

    Args:
        roll: Makes the text.
        values: The node's inputs; those that are linked are None here.
        hidden: The node's hidden inputs.
    """
    try:
        if any(values.get(name, "") is None for name in _DIRECTORIES):
            return note_again(hidden, math.nan)  # which files there are is not known yet
        if any(value is None for value in values.values()):
            return note_again(hidden, library_of(values).generation())
        return note_again(hidden, roll())
    except InputError:
        return math.nan  # equal to nothing: the node runs, and says what is wrong

"""Node schemas on every release of ComfyUI that has them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

_FIELDS = {item.name for item in dataclasses.fields(io.Schema)}

# Of inputs that few need: newer releases fold them away, older ones do not know the word.
ADVANCED = {"advanced": True} if "advanced" in inspect.signature(io.Int.Input).parameters else {}


def node_schema(**fields: Any) -> io.Schema:
    """Return a schema; what an older ComfyUI does not know, such as search_aliases, is left out."""
    if not _may_share_ids():
        _rename_outputs(fields.get("inputs", ()), fields.get("outputs", ()))
    return io.Schema(**{name: value for name, value in fields.items() if name in _FIELDS})


def need_dynamic_combo() -> None:
    """Say in words that a ComfyUI is too old for slots that depend on another input.

    Raises:
        ImportError: It is.
    """
    if not hasattr(io, "DynamicCombo"):
        raise ImportError("this ComfyUI has no DynamicCombo: update it", name="io.DynamicCombo")


@functools.cache
def _may_share_ids() -> bool:
    """May an output have the id of an input? Older releases refuse it."""
    ends = {"inputs": [io.Int.Input("number")], "outputs": [io.Int.Output("number")]}
    try:
        io.Schema(node_id="LunaProbe", category="Luna", **ends).validate()
    except ValueError:
        return False
    return True


def _rename_outputs(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Give outputs that share an id with an input one of their own; what is shown stays."""
    taken = {given.id for given in inputs}
    for output in outputs:
        if output.id in taken:
            output.display_name = output.display_name or output.id
            output.id = f"{output.id}_out"

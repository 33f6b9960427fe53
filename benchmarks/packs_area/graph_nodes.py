"""The two ends of every graph: a node that gives what the runner has, and one that takes what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graphs import SINK, SOURCE

# Of the run under way: name → what gives it; and what the sink has got.
giving: dict[str, Callable[[], Any]] = {}
taken: dict[str, Any] = {}
observe: list[Callable[[Any], Any]] = []


class Source:
    """Gives a thing by its name."""

    RETURN_TYPES = ("*",)
    FUNCTION = "give"
    CATEGORY = "luna"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        """As ComfyUI asks for it."""
        return {"required": {"name": ("STRING", {})}}

    def give(self, name: str) -> tuple[Any]:
        """Return the thing."""
        return (giving[name](),)


class Sink:
    """Takes everything that a node gives, and notes what it is while the run still goes on."""

    RETURN_TYPES = ()
    FUNCTION = "take"
    CATEGORY = "luna"
    OUTPUT_NODE = True
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        """As ComfyUI asks for it; links of any other name come through as well."""
        return {"required": {}}

    def take(self, **outputs: Any) -> dict[str, Any]:
        """Note what came."""
        for name, values in outputs.items():
            taken[name] = observe[0](values)
        return {}


NODES = {SOURCE: Source, SINK: Sink}

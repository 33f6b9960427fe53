"""From a workflow as the page saves it to a prompt as the page would send it.

Only what our example workflows need: widgets in the order of the node's inputs, the slots of a dynamic
combo behind it, and the extra widget that a seed has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ObjectInfo = dict[str, Any]
PAGE_ONLY = {"MarkdownNote", "Note"}
MUTED = 2  # the page leaves these out of the prompt
_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


class Links(NamedTuple):
    """What is linked to a node: input → source, and which inputs have a widget."""

    sources: dict[str, Any]
    widgets: set[str]


def to_prompt(workflow: dict[str, Any], info_of: Callable[[str], ObjectInfo]) -> dict[str, Any]:
    """Return the prompt. Every saved widget value has to be used, or the workflow does not fit the nodes."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in PAGE_ONLY or node["mode"] == MUTED:
            continue
        linked = {i["name"]: links[i["link"]] for i in node["inputs"] if i["link"] is not None}
        widgets = {i["name"] for i in node["inputs"] if "widget" in i}
        values = iter(node["widgets_values"])
        inputs = dict(_inputs(info_of(node["type"])["input"], Links(linked, widgets), values, ""))
        assert list(values) == [], f"{node['type']} has more widget values than widgets"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _inputs(
    declared: ObjectInfo, linked: Links, values: Iterator[Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    for name, (kind, *rest) in [
        item for group in ("required", "optional") for item in declared.get(group, {}).items()
    ]:
        full, options = prefix + name, (rest[0] if rest else {})
        if full in linked.sources:
            yield full, linked.sources[full]
            if full in linked.widgets:
                next(values)  # the page keeps what the widget had before it was linked
        elif options.get("forceInput"):
            continue
        elif kind == "COMFY_DYNAMICCOMBO_V3":
            key = next(values)
            yield full, key
            chosen = [option["inputs"] for option in options["options"] if option["key"] == key]
            assert chosen, f"'{key}' is none of the options of {full}"
            yield from _inputs(chosen[0], linked, values, f"{full}.")
        elif isinstance(kind, list) or kind in _WIDGETS:
            yield full, next(values)
            if options.get("control_after_generate"):
                next(values)

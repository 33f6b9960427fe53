"""What a running node may know of the graph around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_execution.progress import get_progress_state

from ..utils.prompt_graph import Prompt, workflow_id
from .daemon_access import server_name


def graph_of(dynprompt: Any) -> Prompt:
    """Return the graph that runs, with the nodes that others have added to it meanwhile."""
    return {node_id: dynprompt.get_node(node_id) for node_id in dynprompt.all_node_ids()}


def graph_that_runs() -> Prompt:
    """Return the graph that runs, where ComfyUI does not hand it over: when it looks into its cache."""
    return graph_of(get_progress_state().dynprompt)


def workflow_id_of(hidden: Any) -> str:
    """Return the name of the graph that a node belongs to."""
    extra = hidden.extra_pnginfo
    page = extra.get("workflow") if isinstance(extra, Mapping) else None
    workflow = page if isinstance(page, Mapping) else None
    return workflow_id(server_name(), hidden.dynprompt.get_original_prompt(), workflow)

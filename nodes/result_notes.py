"""What came out of nodes that draw, written into the prompt that ComfyUI saves in images.

There it stands in a node's `_meta`, beside its inputs: `luna_outputs` has the outputs' values by their numbers,
so that whoever reads the image knows what came through a link.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..utils.byte_lru import ByteLru
from ..utils.prompt_graph import OUTPUTS, lineage
from .prompt_context import graph_of, graph_that_runs

MAX_NOTES = 16 * 2**20  # bytes, or nearly
MAX_STAMPS = 4096
Note = dict[str, Any]

_stamps: ByteLru[str, str] = ByteLru(MAX_STAMPS)  # lineage of a node → its stamp in this run
_notes: ByteLru[tuple[str, str], Note] = ByteLru(MAX_NOTES)  # lineage, stamp → what came of it


def note_again(hidden: Any, stamp: Any) -> Any:
    """Note what came of these inputs before, as ComfyUI may take it from its cache.

    Args:
        hidden: The node's hidden inputs; `unique_id` counts.
        stamp: What `fingerprint_inputs` is to give.

    Returns:
        The stamp.
    """
    graph = graph_that_runs()
    origin = lineage(graph, hidden.unique_id)
    _stamps.drop(origin)
    if stamp == stamp:  # not for nan: then the node runs in any case
        mark = hashlib.sha256(repr(stamp).encode()).hexdigest()
        _stamps.put(origin, mark, 1)
        noted = _notes.get((origin, mark))
        if noted is not None:
            _write(graph, hidden.unique_id, noted)
    return stamp


def note_result(hidden: Any, outputs: Mapping[int, str | int], **more: Any) -> None:
    """Note what a node has given.

    Args:
        hidden: Its hidden inputs, `unique_id` and `dynprompt`.
        outputs: Values by the numbers of outputs.
        more: What else is to stand in `_meta`.
    """
    graph = graph_of(hidden.dynprompt)
    noted = {OUTPUTS: {str(number): value for number, value in outputs.items()}, **more}
    _write(graph, hidden.unique_id, noted)
    origin = lineage(graph, hidden.unique_id)
    mark = _stamps.get(origin)
    if mark is not None:
        _notes.put((origin, mark), noted, len(json.dumps(noted)))


def _write(graph: Any, node_id: str, noted: Note) -> None:
    node = graph.get(node_id)
    if node is not None:
        node["_meta"] = {**(node.get("_meta") or {}), **noted}

"""What the page tests believe of our nodes is what ComfyUI tells about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .comfy_server import FOLDER

NODES = 47
FILES = (".safetensors", ".gguf", ".ckpt", ".yaml", ".yml", ".json", ".jsonl", ".csv", ".txt")


def without_files(value: Any) -> Any:
    """Leave out the files of this machine among the choices."""
    if isinstance(value, dict):
        return {key: without_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [
            without_files(item)
            for item in value
            if not (isinstance(item, str) and item.endswith(FILES))
        ]
    return value


def test_the_page_tests_know_our_nodes_as_they_are(server, root: Path, tmp_path: Path) -> None:
    module = f"custom_nodes.{FOLDER}"
    told = server.get("/object_info")
    ours = {name: info for name, info in told.items() if info["python_module"] == module}
    assert len(ours) >= NODES
    ours = dict(sorted(ours.items()))  # but not their inputs, whose order is that of the widgets
    text = json.dumps(without_files(ours), indent=1, ensure_ascii=False) + "\n"
    fresh = tmp_path / "object_info.json"
    fresh.write_text(text, "utf-8")
    known = root / "tests" / "page" / "object_info.json"
    assert known.read_text("utf-8") == text, f"The nodes have changed: copy {fresh} to {known}"

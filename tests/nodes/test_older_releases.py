"""Words of ComfyUI's schemas that older releases do not know are used in one place that asks first."""

from __future__ import annotations

from pathlib import Path


def test_only_the_schema_module_says_advanced(root: Path):
    files = [path for path in (root / "nodes").rglob("*.py") if path.name != "schema.py"]
    assert files
    guilty = [str(path) for path in files if "advanced=" in path.read_text("utf-8")]
    assert guilty == [], "write **ADVANCED, from nodes/schema.py"

"""Every example workflow is loaded and run as it is saved, on models of its own names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S
from .page_workflows import to_prompt
from .router_models import make_sdxl
from .workflows import pixels

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 240)


@pytest.fixture(scope="module")
def stocked(server: Any) -> Any:
    """The server with models for all examples."""
    make_sdxl(server.base / "models")
    return server


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(stocked, path):
    workflow = json.loads(path.read_text("utf-8"))
    prompt = to_prompt(workflow, lambda name: stocked.get(f"/object_info/{name}")[name])
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] in ("LunaModelRouter", "LunaSecondaryModelLoader"):
            inputs["daemon_mode"] = "force_local"
        elif node["class_type"] in ("EmptyLatentImage", "LunaConfigGateway"):
            inputs |= {"width": 64, "height": 64}
        if "steps" in inputs:
            inputs["steps"] = 1
        if "start_at_step" in inputs:
            inputs["start_at_step"] = 0
    outputs = stocked.run(prompt, workflow)
    (image,) = [image for output in outputs.values() for image in output.get("images", ())]
    assert pixels((stocked.base / "output" / image["filename"]).read_bytes())
    texts = [text for output in outputs.values() for text in output.get("text", ())]
    assert any("MODEL: " in text for text in texts)


def test_comfyui_offers_the_examples(server):
    offered = server.get("/workflow_templates")["luna-collection"]
    assert sorted(offered) == [path.stem for path in EXAMPLES]

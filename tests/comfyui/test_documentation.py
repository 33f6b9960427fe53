"""What a person reads of our nodes on a real ComfyUI: descriptions, tooltips, labels, help pages."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S

pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 60)
NODES = (
    "LunaModelRouter",
    "LunaDynamicModelLoader",
    "LunaDaemonStatus",
    "LunaCheckpointTunnel",
    "LunaUNetTunnel",
    "LunaDaemonVAELoader",
    "LunaDaemonCLIPLoader",
    "LunaSecondaryModelLoader",
    "LunaModelRestore",
    "LunaLoRAStacker",
    "LunaLoRAStackerRandom",
    "LunaLoRARandomizer",
    "LunaLoRATriggerInjector",
    "LunaLoRAValidator",
    "LunaEmbeddingManager",
    "LunaEmbeddingManagerRandom",
    "LunaDimensionScaler",
    "LunaConfigGateway",
    "LunaResetModelWeights",
    "LunaPipeExpander",
    "LunaKSampler",
    "LunaKSamplerAdvanced",
    "LunaKSamplerHeadless",
    "LunaKSamplerScaffold",
    "LunaFBCacheOverride",
    "LunaGGUFConverter",
    "LunaGGUFBatchConverter",
    "LunaOptimizedWeightsManager",
    "LunaPromptCraft",
    "LunaPromptCraftDebug",
    "LunaLogicResolver",
    "LunaYAMLWildcard",
    "LunaYAMLWildcardBatch",
    "LunaYAMLPathExplorer",
    "LunaYAMLInjector",
    "LunaWildcardBuilder",
    "LunaBatchPromptLoader",
    "LunaBatchPromptExtractor",
    "LunaTextProcessor",
    "LunaExpression",
    "LunaCompare",
    "LunaSwitch",
    "LunaTextFormat",
    "LunaSweep",
    "LunaExpressionPromptBuilder",
    "LunaExpressionList",
    "LunaExpressionSlicerSaver",
)


@pytest.fixture(params=NODES)
def info(request: pytest.FixtureRequest, server: Any) -> dict[str, Any]:
    name: str = request.param
    node: dict[str, Any] = server.get(f"/object_info/{name}")[name]
    return node


def inputs_of(declared: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dotted name, options) of every input, nested ones too."""
    for group in ("required", "optional"):
        for name, (_, options) in declared.get(group, {}).items():
            yield prefix + name, options
            nested = options.get("options", [])
            for option in nested if isinstance(nested, list) else []:
                if isinstance(option, dict):
                    yield from inputs_of(option["inputs"], f"{prefix}{name}.")


def test_these_are_all_the_nodes_of_the_pack(server):
    ours = {name for name in server.get("/object_info") if name.startswith("Luna")}
    assert ours == set(NODES)


def test_a_node_is_described(info):
    assert len(info["description"]) > 60
    assert info["category"].startswith("Luna/")
    assert len(info["search_aliases"]) >= 3


def test_every_input_and_output_has_a_tooltip(info):
    missing = [name for name, options in inputs_of(info["input"]) if not options.get("tooltip")]
    assert missing == []
    assert all(info["output_tooltips"])


def test_the_help_page_is_served_and_names_every_input_and_output(info, server):
    url = f"{server.url}/extensions/luna-collection/docs/{info['name']}.md"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    assert text.startswith("# ")
    top = [name for name, _ in inputs_of(info["input"]) if "." not in name]
    if len(top) > 1:
        assert [name for name in top if f"`{name}`" not in text] == []


def test_nested_inputs_have_labels_since_the_page_ignores_those_of_the_schema(info, root: Path):
    labels = json.loads((root / "locales/en/nodeDefs.json").read_text("utf-8"))[info["name"]]
    assert labels["display_name"] == info["display_name"]
    declared = {name.replace(".", "_"): options for name, options in inputs_of(info["input"])}
    told = labels.get("inputs", {})
    assert set(told) <= set(declared), "a label for an input that there is not"
    nested = [name for name, _ in inputs_of(info["input"]) if "." in name]
    for name in nested:
        entry = told[name.replace(".", "_")]
        assert entry["name"]
        assert entry["tooltip"] == declared[name.replace(".", "_")]["tooltip"]


def test_comfyui_serves_the_labels(server):
    assert "LunaModelRouter" in server.get("/i18n")["en"]["nodeDefs"]

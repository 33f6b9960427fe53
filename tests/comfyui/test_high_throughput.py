"""The high-throughput example: many runs with the same LoRAs and new strengths, and the model as it was."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from luna_collection.utils.wildcards import expand

from .comfy_server import BOOT_TIMEOUT_S
from .file_opens import CAN_COUNT, FileOpens
from .page_workflows import to_prompt
from .workflows import SD15, pixels

EXAMPLE = Path(__file__).resolve().parents[2] / "example_workflows" / "lora_high_throughput.json"
RUNS = 50
TEMPLATE = "a {lighthouse|windmill}, <lora:style:{-1-1.5:0.001}:{-1-1.5:0.001}>"
pytestmark = pytest.mark.timeout(BOOT_TIMEOUT_S + 600)
Prompt = dict[str, Any]


class Runs:
    """The example on a server, with small pictures."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.workflow = json.loads(EXAMPLE.read_text("utf-8"))
        self.prompt: Prompt = to_prompt(
            self.workflow, lambda name: server.get(f"/object_info/{name}")[name]
        )
        self.node("LunaModelRouter")["daemon_mode"] = "force_local"
        self.node("LunaConfigGateway").update(width=64, height=64, steps=2)

    def node(self, kind: str) -> dict[str, Any]:
        """Return the inputs of the only node of a class."""
        (inputs,) = [node["inputs"] for node in self.prompt.values() if node["class_type"] == kind]
        return inputs

    def draw(self, template: str, seed: int) -> tuple[bytes, str]:
        """Draw with this positive prompt; return the picture and all texts that nodes show."""
        self.node("LunaYAMLWildcard").update(prompt_template=template, seed=seed)
        self.node("LunaConfigGateway")["seed"] = seed
        outputs = self.server.run(self.prompt, self.workflow)
        (image,) = [image for output in outputs.values() for image in output.get("images", ())]
        texts = [text for output in outputs.values() for text in output.get("text", ())]
        picture = (self.server.base / "output" / image["filename"]).read_bytes()
        return pixels(picture), "\n".join(texts)


def stock(text: str, seed: int, strengths: tuple[float, float]) -> Prompt:
    """Return the same from ComfyUI's own nodes."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=SD15),
        "2": node(
            "LoraLoader",
            model=["1", 0],
            clip=["1", 1],
            lora_name="style.safetensors",
            strength_model=strengths[0],
            strength_clip=strengths[1],
        ),
        "3": node("CLIPSetLastLayer", clip=["2", 1], stop_at_clip_layer=-2),
        "4": node("CLIPTextEncode", clip=["3", 0], text=text),
        "5": node("CLIPTextEncode", clip=["3", 0], text="blurry, low quality"),
        "6": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "7": node(
            "KSampler",
            model=["2", 0],
            positive=["4", 0],
            negative=["5", 0],
            latent_image=["6", 0],
            seed=seed,
            steps=2,
            cfg=7.0,
            sampler_name="dpmpp_2m",
            scheduler="karras",
            denoise=1.0,
        ),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="stock"),
    }


def strengths_of(text: str) -> tuple[float, float]:
    """Return what a LoRA tag says."""
    _, model, clip = text.partition("<lora:")[2].rstrip(">").split(":")
    return float(model), float(clip)


def test_the_example_draws_another_prompt_for_each_seed(server):
    runs = Runs(server)
    template = runs.node("LunaYAMLWildcard")["prompt_template"]
    (source, output) = runs.node("LunaConfigGateway")["positive_prompt"]
    assert (runs.prompt[source]["class_type"], output) == ("LunaYAMLWildcard", 0)
    for seed in (0, 1):
        model, clip = strengths_of(expand(template, seed).text)
        _, texts = runs.draw(template, seed)
        assert f"style.safetensors: {model:g} model, {clip:g} text" in texts


@pytest.mark.parametrize(
    ("computers", "mode"), [("server", "force_local"), ("studio", "force_daemon")]
)
def test_fifty_runs_with_random_strengths(request, computers, mode):
    """The same pictures as stock ComfyUI's, and no model file is touched after the first one."""
    found = request.getfixturevalue(computers)
    server = found if computers == "server" else found.servers[0]
    runs = Runs(server)
    runs.node("LunaModelRouter")["daemon_mode"] = mode
    before, _ = runs.draw("a lighthouse", 1)
    runs.draw(TEMPLATE, RUNS)
    pictures = {}
    with FileOpens((server.base / "models").resolve()) if CAN_COUNT else nullcontext() as opens:
        for seed in range(RUNS):
            pictures[seed], texts = runs.draw(TEMPLATE, seed)
            model, clip = strengths_of(expand(TEMPLATE, seed).text)
            assert f"style.safetensors: {model:g} model, {clip:g} text" in texts
            # A strength of 0 leaves the model as it is.
            assert ("Took the LoRAs of this run off" in texts) is (model != 0)
        after, texts = runs.draw("a {lighthouse|lighthouse}", 1)  # not from the cache
        assert opens is None or opens.take() == []
    assert after == before
    assert "There were no LoRAs on this model." in texts
    assert len(set(pictures.values())) == RUNS
    with FileOpens((server.base / "models").resolve()) if CAN_COUNT else nullcontext() as opens:
        for seed in range(0, RUNS, 10):
            text = expand(TEMPLATE, seed).text
            wanted = server.image(stock(text.partition(", <lora")[0], seed, strengths_of(text)))
            assert pictures[seed] == pixels(wanted)
        # ComfyUI's own loader reads the file for each: what counts none above does count.
        assert opens is None or any(path.endswith("style.safetensors") for path in opens.take())

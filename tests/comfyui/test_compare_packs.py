"""`luna.py packs` on a pack written here: what is equal, what is refused, what differs, what breaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from luna_command.comfyui import ComfyUI

PACK = '''
import torch


class Node:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae": ("VAE",), "samples": ("LATENT",)}}

    def run(self, vae, samples):
        return (vae.decode(samples["samples"]),)


class Circular(Node):
    def run(self, vae, samples):
        layer = vae.first_stage_model.decoder.conv_in
        usual = layer.padding_mode
        layer.padding_mode = "circular"
        try:
            return (vae.decode(samples["samples"]),)
        finally:
            layer.padding_mode = usual


class Louder(Node):
    """Leaves something behind."""

    def run(self, vae, samples):
        vae.first_stage_model.decoder.conv_in.weight.data.mul_(2)
        return (vae.decode(samples["samples"]),)


class Suspicious(Node):
    def run(self, vae, samples):
        factor = 1.0 if type(vae).__name__ == "VAE" else 0.5
        return (vae.decode(samples["samples"]) * factor,)


class Picky(Node):
    def run(self, vae, samples):
        if type(vae).__name__ != "VAE":
            raise TypeError("this is no VAE")
        return (vae.decode(samples["samples"]),)


class Missing(Node):
    def run(self, vae, samples):
        import a_package_that_nobody_has


class Pipe(Node):
    RETURN_TYPES = ("TEST_PIPE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",)}}

    def run(self, clip):
        return ((clip,),)


class FromPipe(Node):
    RETURN_TYPES = ("CLIP", "CONDITIONING")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pipe": ("TEST_PIPE",), "text": ("STRING", {"multiline": True})}}

    def run(self, pipe, text):
        (clip,) = pipe
        return clip, clip.encode_from_tokens_scheduled(clip.tokenize(text))


NODE_CLASS_MAPPINGS = {
    "Decode": Node,
    "Circular": Circular,
    "Louder": Louder,
    "Suspicious": Suspicious,
    "Picky": Picky,
    "Missing": Missing,
    "Pipe": Pipe,
    "FromPipe": FromPipe,
}
'''
EXPECTED = {
    "Decode": "equal",
    "Circular": "refused in a sentence",
    "Louder": "refused in a sentence",
    "Suspicious": "DIFFERENT",
    "Picky": "BROKEN",
    "Missing": "fails on both",
    "Pipe": "equal",
    "FromPipe": "equal",
}
LINE = re.compile(rf"^  ({'|'.join(set(EXPECTED.values()))}) +(\w+)(?:: |$)", re.MULTILINE)


@pytest.fixture
def packs(tmp_path: Path) -> list[str]:
    texts = {"good": PACK, "broken": "import a_package_that_nobody_has"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text, "utf-8")
    return [str(tmp_path / name) for name in texts]


def test_nodes_are_equal_or_refused_or_found_out(
    root: Path, comfyui: ComfyUI, packs: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, str(root / "benchmarks" / "packs.py"), *packs]
    options = ("--comfyui", str(comfyui.root), "--policy", "error", "--folder", str(tmp_path))
    done = subprocess.run(
        [*command, *options],
        env={**os.environ, "COMFYUI_PYTHON": str(comfyui.python), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert {name: kind for kind, name in LINE.findall(done.stdout)} == EXPECTED
    assert "force_local" in done.stdout
    said = [line for line in done.stdout.splitlines() if "Cannot import" in line]
    assert len(said) == 1
    assert "No module named 'a_package_that_nobody_has'" in said[0]
    assert "broken (not loaded)" in done.stdout

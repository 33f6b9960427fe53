"""`luna.py packs` on a pack written here: what is equal, what is refused, what differs, what breaks."""

from __future__ import annotations

import os
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
    "error": {
        "Decode": "equal",
        "Circular": "refused in a sentence",
        "Louder": "refused in a sentence",
        "Suspicious": "DIFFERENT",
        "Picky": "BROKEN",
        "Missing": "fails on both",
        "Pipe": "equal",
        "FromPipe": "equal",
    },
    "local": {
        "Decode": "equal",
        "Circular": "equal",
        "Louder": "equal",
        "Suspicious": "DIFFERENT",
        "Picky": "BROKEN",
        "Missing": "fails on both",
        "Pipe": "equal",
        "FromPipe": "equal",
    },
}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    for name, text in (("good", PACK), ("broken", "import a_package_that_nobody_has")):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(text, "utf-8")
    return folder


def compare(root: Path, comfyui: ComfyUI, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "packs.py"), *arguments]
    environ = {**os.environ, "COMFYUI_PYTHON": str(comfyui.python), "COLUMNS": "200"}
    return subprocess.run(
        [*command, "--comfyui", str(comfyui.root)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nodes_are_equal_or_refused_or_found_out(root, comfyui, packs, tmp_path):
    done = compare(root, comfyui, str(packs / "good"), "--folder", str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    for policy, expected in EXPECTED.items():
        part = done.stdout.partition(f"good, policy {policy}")[2].partition("good, policy")[0]
        found = {
            name: kind
            for line in part.splitlines()
            for name in expected
            for kind in set(expected.values())
            if line.split(":")[0].split() == [*kind.split(), name]
        }
        assert found == expected, done.stdout
    assert "No module named 'a_package_that_nobody_has'" in done.stdout
    assert "force_local" in done.stdout


def test_a_pack_that_does_not_load_is_said_in_one_line(root, comfyui, packs, tmp_path):
    arguments = (str(packs / "broken"), "--policy", "error", "--folder", str(tmp_path))
    done = compare(root, comfyui, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No module named 'a_package_that_nobody_has'" in done.stdout
    assert "broken (not loaded)" in done.stdout

"""ComfyUI's own model folders: the usual one, links in it, and extra_model_paths.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from luna_collection.luna_daemon.errors import ConfigError
from luna_collection.luna_daemon.model_roots import comfyui_model_roots


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    (tmp_path / "ComfyUI" / "models" / "vae").mkdir(parents=True)
    return tmp_path / "ComfyUI"


def test_the_models_folder_is_one(comfyui):
    assert comfyui_model_roots(comfyui) == (comfyui / "models",)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_linked_folder_leads_to_another(comfyui, tmp_path):
    (tmp_path / "disk").mkdir()
    (comfyui / "models" / "checkpoints").symlink_to(tmp_path / "disk")
    assert comfyui_model_roots(comfyui) == (comfyui / "models", tmp_path / "disk")


def test_extra_paths_are_read_as_comfyui_reads_them(comfyui, tmp_path, monkeypatch):
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    (comfyui / "extra_model_paths.yaml").write_text(
        "a111:\n"
        "  base_path: $DISK/webui\n"
        "  is_default: true\n"
        "  checkpoints: models/Stable-diffusion\n"
        "  loras: |\n"
        "    models/Lora\n"
        "    models/LyCORIS\n"
        "beside:\n"
        "  vae: more/vae\n"
        "relative:\n"
        "  base_path: here\n"
        "  vae: vae\n"
        "empty:\n",
        "utf-8",
    )
    webui = tmp_path / "disk" / "webui" / "models"
    assert comfyui_model_roots(comfyui) == (
        comfyui / "models",
        webui / "Stable-diffusion",
        webui / "Lora",
        webui / "LyCORIS",
        comfyui / "more" / "vae",
        comfyui / "here" / "vae",
    )


@pytest.mark.parametrize("text", ["a: [", "a: !!python/object:os.system {}"])
def test_a_file_that_cannot_be_read_is_an_error(comfyui, text):
    (comfyui / "extra_model_paths.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"extra_model_paths\.yaml cannot be read"):
        comfyui_model_roots(comfyui)


@pytest.mark.parametrize("text", ["", "just a text", "a: b"])
def test_a_file_that_names_nothing_adds_nothing(comfyui, text):
    (comfyui / "extra_model_paths.yaml").write_text(text, "utf-8")
    assert comfyui_model_roots(comfyui) == (comfyui / "models",)

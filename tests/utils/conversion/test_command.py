"""`luna.py convert` and `luna.py inspect`, as a person runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .model_files import CLIP_L, FLUX, flux, save, sdxl_checkpoint, weights

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "weights.py"
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def run(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_a_checkpoint_is_converted_beside_its_models(tmp_path):
    source = sdxl_checkpoint(tmp_path / "models" / "checkpoints" / "xl")

    code, text = run("convert", source, "--to", "q4_k_m", "--to", "fp8_e4m3fn", "--worst")

    assert code == 0, text
    place = tmp_path / "models" / "unet"
    assert (place / "gguf/sdxl_Q4_K_M.gguf").is_file()
    assert (place / "fp8/sdxl_unet_fp8_e4m3fn.safetensors").is_file()
    assert "error (rmse)" in text
    assert "Q4_K" in text
    assert "input_blocks.1.0.in_layers.2.weight" in text
    code, text = run("convert", source, "--to", "q4_k_m")
    assert code == 0
    assert "was there already" in text


def test_a_file_or_a_folder_can_be_named(tmp_path):
    source = flux(tmp_path)

    assert run("convert", source, "--to", "Q8_0", "--output", tmp_path / "meins.gguf")[0] == 0
    assert run("convert", source, "--to", "Q8_0", "--output", tmp_path / "unet")[0] == 0

    assert (tmp_path / "meins.gguf").is_file()
    assert (tmp_path / "unet/gguf/flux_Q8_0.gguf").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert"], 2, "needs a source"),
        (["convert", "gone.safetensors", "--to", "q8_0"], 1, "There is no file 'gone.safetensors'"),
        (["convert", "clip.safetensors", "--to", "q9"], 1, "There is no precision 'q9'"),
        (["convert", "clip.safetensors", "--to", "q8_0"], 1, "is a text encoder"),
        (
            ["convert", "clip.safetensors", "--to", "q8_0", "--device", "cuda:99"],
            1,
            "no device 'cuda:99'",
        ),
        (["inspect", "gone.gguf"], 1, "There is no file 'gone.gguf'"),
        (["inspect", "notes.txt"], 1, "neither a safetensors nor a GGUF"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path, arguments, code, words):
    save(tmp_path / "clip.safetensors", weights(CLIP_L))
    (tmp_path / "notes.txt").write_text("no model")
    places = [tmp_path / a if "." in a else a for a in arguments]

    found, text = run(*places)

    assert found == code
    assert words in text
    assert "Traceback" not in text


def test_one_bad_file_does_not_keep_the_others_from_being_made(tmp_path):
    bad = save(tmp_path / "clip.safetensors", weights(CLIP_L))
    good = flux(tmp_path)

    code, _ = run("convert", bad, good, "--to", "q8_0", "--output", tmp_path / "unet")

    assert code == 1
    assert (tmp_path / "unet/gguf/flux_Q8_0.gguf").is_file()


def test_the_precisions_are_listed():
    code, text = run("convert", "--list")

    assert code == 0
    assert "gguf_Q4_K_M" in text


def test_files_are_inspected(tmp_path):
    source = sdxl_checkpoint(tmp_path)
    run("convert", source, "--to", "q8_0", "--output", tmp_path / "a.gguf")

    code, text = run("inspect", source, tmp_path / "a.gguf")

    assert code == 0
    assert "a checkpoint (SDXL)" in text
    assert "model.diffusion_model." in text
    assert "general.architecture" in text
    assert f"{source} (gguf_Q8_0, " in text
    lines = [line.split() for line in text.splitlines()]
    assert ["Q8_0", "4", "2,846,720", "3.0"] in lines


@pytest.mark.skipif(os.name == "nt", reason="Ctrl+C cannot be sent to one process there")
def test_ctrl_c_ends_it_and_keeps_what_is_done(tmp_path):
    layers = {f"double_blocks.{n}.img_mlp.0.weight": (2048, 2048) for n in range(16)}
    source = save(tmp_path / "a.safetensors", weights({**FLUX, **layers}))
    command = [sys.executable, str(SCRIPT), "convert", str(source), "--to", "q4_k_m"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    ) as child:
        part = tmp_path / "gguf" / ".a_Q4_K_M.gguf.part"
        while not part.exists() and child.poll() is None:
            pass
        child.send_signal(signal.SIGINT)
        text, _ = child.communicate(timeout=60)

    assert child.returncode == 130, text
    assert "What is done is kept" in text
    assert part.exists()
    assert not (tmp_path / "gguf" / "a_Q4_K_M.gguf").exists()

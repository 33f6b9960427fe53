from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.conversion.batch import Batch, convert_folder
from luna_collection.utils.conversion.refusal import ConversionCancelledError
from luna_collection.utils.conversion.streaming import Progress, Run
from luna_collection.utils.errors import InputError

from .model_files import CLIP_L, flux, save, sdxl_checkpoint, weights


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    flux(folder, "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"cut")
    save(folder / "c.safetensors", weights(CLIP_L))
    sdxl_checkpoint(folder, "d.safetensors")
    (folder / "notes.txt").write_text("no model")
    flux(folder / "below", "e.safetensors")
    return folder


def run(batch: Batch, seen: list[Progress] | None = None):
    return convert_folder(batch, Run((seen if seen is not None else []).append))


def test_each_file_has_a_line(tmp_path, sources):
    seen: list[Progress] = []

    report = run(Batch(sources, "gguf_Q8_0", tmp_path / "unet", 10), seen)

    assert (report.converted, report.failed) == (2, 1)
    assert [line[:20] for line in report.lines] == [
        "OK a.safetensors: a_",
        "FAIL b.safetensors: ",
        "SKIP c.safetensors: ",
        "OK d.safetensors: d_",
    ]
    assert (tmp_path / "unet/gguf/a_Q8_0.gguf").exists()
    assert not list(tmp_path.rglob("*b_Q8_0*"))
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total


def test_what_is_there_is_left_out_or_made_again(tmp_path, sources):
    batch = Batch(sources, "gguf_Q8_0", tmp_path / "unet", 10)
    run(batch)

    again = run(batch)
    anew = run(Batch(sources, "gguf_Q8_0", tmp_path / "unet", 10, skips_existing=False))

    assert again.converted == 0
    assert again.lines[0] == "SKIP a.safetensors: a_Q8_0.gguf is there already"
    assert anew.converted == 2


def test_no_more_than_wanted(tmp_path, sources):
    batch = Batch(sources, "gguf_Q8_0", tmp_path / "unet", 1)

    first, second = run(batch), run(batch)

    assert first.converted == 1
    assert first.lines[-1] == "3 more files were not looked at: max_files"
    # The first file is there by now: it does not count.
    assert (second.converted, second.failed) == (0, 1)


def test_cancelling_ends_the_batch(tmp_path, sources):
    batch = Batch(sources, "gguf_Q8_0", tmp_path / "unet", 10)

    with pytest.raises(ConversionCancelledError):
        convert_folder(batch, Run(is_cancelled=lambda: True))


def test_a_folder_without_models(tmp_path):
    with pytest.raises(InputError, match="no safetensors"):
        run(Batch(tmp_path, "gguf_Q8_0", tmp_path, 10))

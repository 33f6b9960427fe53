from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import filelock
import pytest
from luna_collection.utils.conversion import housekeeping
from luna_collection.utils.conversion.converting import converted_again, converted_once
from luna_collection.utils.conversion.part_files import lock_of, part_of
from luna_collection.utils.conversion.refusal import ConversionCancelledError
from luna_collection.utils.conversion.sidecars import read_sidecar, sidecar_path, write_sidecar
from luna_collection.utils.conversion.streaming import Run
from luna_collection.utils.errors import InputError

from .model_files import flux


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two converted files, of which one was not used for forty days, and files of somebody else."""
    unet = tmp_path / "unet"
    source = flux(tmp_path)
    converted_once(source, "fp8_e4m3fn", unet)
    old = converted_once(source, "gguf_Q8_0", unet).path
    sidecar = read_sidecar(old)
    assert sidecar is not None
    long_ago = housekeeping.present() - timedelta(days=40)
    write_sidecar(old, replace(sidecar, used=long_ago.isoformat()))
    (unet / "gguf" / "mine.gguf").write_bytes(b"mine")
    (unet / "gguf" / "broken.gguf").write_bytes(b"mine")
    (unet / "gguf" / "broken.gguf.luna.json").write_text("{}")
    (unet / "gguf" / ".mine.gguf.part").write_bytes(b"of another program")
    return unet


def names(files: list[housekeeping.Kept]) -> list[str]:
    return [kept.path.name for kept in files]


NEW, OLD = "flux_unet_fp8_e4m3fn.safetensors", "flux_Q8_0.gguf"


def test_only_files_that_were_made_here_are_listed(folder):
    assert names(housekeeping.converted_files(folder)) == [NEW, OLD]


def test_what_was_not_used_for_long(folder):
    files = housekeeping.converted_files(folder)
    at = housekeeping.present()

    assert names(housekeeping.unused_since(files, 30, at)) == [OLD]
    assert names(housekeeping.unused_since(files, 41, at)) == []


def test_removing_takes_the_sidecar_along_and_nothing_else(folder):
    before = set(folder.rglob("*"))
    files = housekeeping.converted_files(folder)

    removed, kept_back = housekeeping.remove(files[1:])

    assert (names(removed), kept_back) == ([OLD], [])
    gone = {folder / "gguf" / OLD, sidecar_path(folder / "gguf" / OLD)}
    assert before - set(folder.rglob("*")) == gone


def test_what_an_interrupted_conversion_left_is_listed_and_removed(tmp_path, folder):
    seen: list[str] = []
    with pytest.raises(ConversionCancelledError):
        converted_once(
            tmp_path / "flux.safetensors",
            "gguf_Q5_0",
            folder,
            Run(lambda progress: seen.append(progress.doing), lambda: len(seen) > 3),
        )
    place = folder / "gguf" / "flux_Q5_0.gguf"
    (left,) = [k for k in housekeeping.converted_files(folder) if k.sidecar is None]
    assert left.path == place
    assert left.size > 0

    assert "unfinished" in housekeeping.list_report([left], folder, housekeeping.present())
    housekeeping.remove([left])

    assert not part_of(place).exists()
    assert not list(folder.rglob("*Q5_0*"))


def test_a_file_that_is_being_made_stays(folder):
    files = housekeeping.converted_files(folder)
    with filelock.FileLock(lock_of(files[0].path)):
        removed, kept_back = housekeeping.remove(files)

    assert names(removed) == [OLD]
    assert [(kept.path.name, reason) for kept, reason in kept_back] == [
        (NEW, "it is being made just now")
    ]


def test_reports_say_what_there_is(tmp_path, folder):
    (tmp_path / "flux.safetensors").unlink()
    files = housekeeping.converted_files(folder)
    at = housekeeping.present()

    listed = housekeeping.list_report(files, folder, at).splitlines()
    assert listed[0].startswith("2 converted files, ")
    assert listed[1].startswith(f"fp8/{NEW}: ")
    assert listed[2].endswith("used 40 days ago, made of flux.safetensors, which is gone")
    assert "gguf_Q8_0: 1, " in housekeeping.stats_report(files, folder)
    dry = housekeeping.removal_report(files[:1], [], folder, dry=True)
    assert dry.startswith("Would remove 1 file, ")
    assert "Nothing was removed" in dry


def test_a_use_is_noted(tmp_path, folder):
    found = converted_once(tmp_path / "flux.safetensors", "gguf_Q8_0", folder)

    assert not found.made
    noted = json.loads(sidecar_path(found.path).read_bytes())["used"]
    at = housekeeping.present()
    assert names(housekeeping.unused_since(housekeeping.converted_files(folder), 1, at)) == []
    assert noted == found.sidecar.used


def test_a_file_is_made_again_when_that_is_wanted(tmp_path, folder):
    made = converted_again(tmp_path / "flux.safetensors", "gguf_Q8_0", folder)

    assert made.made
    assert made.path.name == OLD


def manage(folder: Path, action: str, **options) -> str:
    settings = {"days": 30, "dry": True, "confirm": "", **options}
    return housekeeping.manage(folder, housekeeping.Action(action), **settings)


def test_nothing_is_removed_unless_that_is_said(folder):
    before = set(folder.rglob("*"))

    assert "2 converted files" in manage(folder, "list")
    assert "2 converted files" in manage(folder, "stats")
    assert OLD in manage(folder, "clear_old")
    assert "Would remove 2 files" in manage(folder, "purge_all")
    with pytest.raises(InputError, match="delete"):
        manage(folder, "purge_all", dry=False)

    assert set(folder.rglob("*")) == before


def test_old_files_and_all_files_are_removed(folder):
    assert "Removed 1 file" in manage(folder, "clear_old", dry=False)
    assert names(housekeeping.converted_files(folder)) == [NEW]
    assert "Removed 1 file" in manage(folder, "purge_all", dry=False, confirm="delete")
    assert housekeeping.converted_files(folder) == []
    assert (folder / "gguf" / "mine.gguf").exists()


def test_a_folder_that_is_not_there_yet_has_no_files(tmp_path):
    assert manage(tmp_path / "unet", "list").startswith("0 converted files")

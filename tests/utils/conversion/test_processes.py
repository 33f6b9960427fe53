"""Conversions by real processes: some at once, some that are killed, and some whose disk gets full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.utils.conversion import housekeeping, part_files
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.part_files import lock_of, part_of, record_of
from luna_collection.utils.conversion.sidecars import sidecar_path
from luna_collection.utils.conversion.streaming import Run
from luna_collection.utils.errors import ModelFileError

from .model_files import FLUX, save, weights

CHILD = Path(__file__).with_name("child.py")
LAYERS = {
    f"double_blocks.{number}.img_mlp.{part}.weight": (512, 1024)
    for number in range(12)
    for part in (0, 2)
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "模型 ñ.safetensors", weights({**FLUX, **LAYERS}))


def start(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(CHILD), *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )


def result_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = child.communicate(timeout=120)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def read_lines(child: subprocess.Popen[str], count: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline().strip() for _ in range(count)]


def test_two_processes_convert_a_file_once(tmp_path, source):
    children = [start(source, "gguf_Q4_K_M", tmp_path / "unet") for _ in range(2)]

    results = [result_of(child) for child in children]

    assert sorted(result["made"] for result in results) == [False, True]
    assert len({result["path"] for result in results}) == 1
    path = Path(results[0]["path"])
    assert set(path.parent.iterdir()) - {lock_of(path)} == {path, sidecar_path(path)}
    assert not converted_once(source, "gguf_Q4_K_M", tmp_path / "unet").made


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_conversion_leaves_no_broken_file_and_goes_on(tmp_path, source):
    child = start(source, "gguf_Q4_K_M", tmp_path / "unet", "--note-always")
    seen = read_lines(child, 8)
    child.kill()
    seen += child.communicate()[0].split()

    place = tmp_path / f"unet/gguf/{source.stem}_Q4_K_M.gguf"
    assert not place.exists()
    assert not sidecar_path(place).exists()
    noted = set(json.loads(record_of(place).read_bytes())["finished"])
    assert noted <= set(seen)
    assert len(noted) >= 7
    again: list[str] = []
    made = converted_once(
        source, "gguf_Q4_K_M", tmp_path / "unet", run=Run(lambda p: again.append(p.doing))
    )
    assert not noted & set(again)
    assert made.path == place
    whole = converted_once(source, "gguf_Q4_K_M", tmp_path / "whole")
    assert place.read_bytes() == whole.path.read_bytes()
    assert made.sidecar.layers == whole.sidecar.layers


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_lock_of_a_killed_process_holds_nobody_up(tmp_path, source):
    child = start(source, "gguf_Q4_K_M", tmp_path / "unet")
    read_lines(child, 1)
    waiting = start(source, "gguf_Q4_K_M", tmp_path / "unet")
    child.kill()

    assert result_of(waiting)["made"]
    child.communicate()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM that a process could answer")
def test_a_stopped_process_says_so_and_keeps_what_it_did(tmp_path, source):
    child = start(source, "gguf_Q4_K_M", tmp_path / "unet")
    read_lines(child, 5)
    child.send_signal(signal.SIGTERM)

    assert "stopped" in result_of(child)["error"]
    place = tmp_path / f"unet/gguf/{source.stem}_Q4_K_M.gguf"
    assert not place.exists()
    assert len(json.loads(record_of(place).read_bytes())["finished"]) >= 5


def test_a_disk_that_gets_full(tmp_path, source):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=100m tmpfs "{disk}" && "$@"; status=$?; ls -A "{disk}/gguf"; exit $status'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    probe = (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "mount",
        "-t",
        "tmpfs",
        "tmpfs",
        str(disk),
    )
    try:
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system gives no disk of a limited size")

    child = start(source, "gguf_Q8_0", disk, "--fill", 3, before=inside)
    output, _ = child.communicate(timeout=120)

    assert child.returncode == 1
    lines = output.splitlines()
    error = next(json.loads(line)["error"] for line in lines if line.startswith("{"))
    assert error.startswith("The disk is full")
    left = lines[lines.index(next(line for line in lines if line.startswith("{"))) + 1 :]
    assert [name for name in left if not name.endswith(".lock")] == []


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells memory")
@pytest.mark.parametrize("target", ["fp8_e4m3fn", "fp8_e4m3fn_scaled", "gguf_Q8_0", "gguf_Q4_K_M"])
def test_memory_is_bounded_by_the_largest_tensor(tmp_path, target):
    rows, columns = 4096, 4096
    tensors = weights(FLUX)
    large = torch.randn(rows, columns, dtype=torch.float32).to(torch.bfloat16)
    count = 2 if target.endswith("K_M") else 8  # those take their time
    tensors |= {f"single_blocks.{number}.linear1.weight": large for number in range(count)}
    path = save(tmp_path / "a.safetensors", {name: t.clone() for name, t in tensors.items()})

    result = result_of(start(path, target, tmp_path / "unet", "--memory"))

    assert 0 < result["peak"] <= 3 * rows * columns * 2


def test_a_source_that_is_cut_short_meanwhile(tmp_path, source):
    def cut(progress: Any) -> None:
        os.truncate(source, 200_000)

    with pytest.raises(ModelFileError, match="cut short"):
        converted_once(source, "gguf_Q8_0", tmp_path / "unet", run=Run(cut))

    place = tmp_path / f"unet/gguf/{source.stem}_Q8_0.gguf"
    assert not place.exists()
    assert not part_of(place).exists()


def test_what_stops_at_the_last_moment_goes_on(tmp_path, source, monkeypatch):
    """The sidecar is there, and the file is not yet."""
    monkeypatch.setattr(part_files, "finish_part", lambda place: sys.exit(9))
    with pytest.raises(SystemExit):
        converted_once(source, "gguf_Q8_0", tmp_path / "unet")
    monkeypatch.undo()
    place = tmp_path / f"unet/gguf/{source.stem}_Q8_0.gguf"
    assert sidecar_path(place).exists()
    assert not place.exists()
    (left,) = housekeeping.converted_files(tmp_path / "unet")
    assert left.sidecar is None

    seen: list[str] = []
    made = converted_once(
        source, "gguf_Q8_0", tmp_path / "unet", run=Run(lambda p: seen.append(p.doing))
    )

    assert (made.path, made.made, seen) == (place, True, [])
    whole = converted_once(source, "gguf_Q8_0", tmp_path / "whole")
    assert place.read_bytes() == whole.path.read_bytes()

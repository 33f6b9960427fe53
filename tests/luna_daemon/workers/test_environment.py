from __future__ import annotations

import os
import sys

import pytest
from luna_collection.luna_daemon.workers.environment import device_inside, worker_environment


def environment(device: str = "cpu", threads: int = 0, **base: str) -> dict[str, str]:
    return worker_environment(device, threads, base)


GPUS = {
    "cpu": ("cpu", None, ""),
    "mps": ("mps", None, ""),
    "cpu of a daemon that sees GPUs": ("cpu", "0,1", ""),
    "first": ("cuda:0", None, "0"),
    "second": ("cuda:1", None, "1"),
    "no number": ("cuda", None, "0"),
    "first of a list": ("cuda:0", "3,5", "3"),
    "second of a list": ("cuda:1", "3,5", "5"),
    "list with blanks": ("cuda:1", " 3 , 5 ", "5"),
    "by name": ("cuda:1", "GPU-aa,GPU-bb", "GPU-bb"),
    "hidden by an empty list": ("cuda:0", "", ""),
    "hidden by -1": ("cuda:0", "-1", "-1"),
    "behind the end of the list": ("cuda:2", "3,5", ""),
}


@pytest.mark.parametrize(("device", "visible", "inside"), GPUS.values(), ids=GPUS.keys())
def test_a_worker_sees_its_own_gpu_and_no_other(
    device: str, visible: str | None, inside: str
) -> None:
    base = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert worker_environment(device, 0, base)["CUDA_VISIBLE_DEVICES"] == inside


@pytest.mark.parametrize(
    ("device", "inside"),
    [
        ("cpu", "cpu"),
        ("mps", "mps"),
        ("cuda", "cuda:0"),
        ("cuda:0", "cuda:0"),
        ("cuda:3", "cuda:0"),
    ],
)
def test_inside_a_worker_its_gpu_is_the_first(device: str, inside: str) -> None:
    assert device_inside(device) == inside


@pytest.mark.parametrize(
    ("threads", "base", "value"),
    [
        (0, {}, str(os.cpu_count())),
        (3, {}, "3"),
        (0, {"OMP_NUM_THREADS": "2"}, "2"),
        (3, {"OMP_NUM_THREADS": "2"}, "3"),
    ],
    ids=["all cores", "the setting", "the user's", "the setting over the user's"],
)
def test_the_threads_of_a_worker(threads: int, base: dict[str, str], value: str) -> None:
    assert environment(threads=threads, **base)["OMP_NUM_THREADS"] == value


def test_threads_that_wait_do_not_spin() -> None:
    env = environment()
    assert (env["OMP_WAIT_POLICY"], env["KMP_BLOCKTIME"]) == ("passive", "0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are glibc's variables")
def test_large_blocks_are_kept() -> None:
    env = environment()
    assert all(int(env[f"MALLOC_{name}_"]) > 2**25 for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD", "TOP_PAD"))  # fmt: skip


@pytest.mark.parametrize(
    "name", ["OMP_WAIT_POLICY", "KMP_BLOCKTIME", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"]
)
def test_what_the_user_has_set_stays(name: str) -> None:
    assert environment(**{name: "7"})[name] == "7"


@pytest.mark.parametrize("base", [{}, {"HF_HUB_OFFLINE": "0"}], ids=["unset", "set by the user"])
def test_a_worker_never_uses_the_network(base: dict[str, str]) -> None:
    assert environment(**base)["HF_HUB_OFFLINE"] == "1"


def test_what_a_worker_prints_is_seen_at_once() -> None:
    assert environment()["PYTHONUNBUFFERED"] == "1"


def test_everything_else_is_handed_on() -> None:
    assert environment(PATH="/bin", LANG="C")["PATH"] == "/bin"


def test_the_environment_of_the_daemon_is_not_changed() -> None:
    base = {"OMP_NUM_THREADS": "2"}
    worker_environment("cuda:1", 3, base)
    assert base == {"OMP_NUM_THREADS": "2"}

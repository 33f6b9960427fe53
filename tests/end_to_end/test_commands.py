"""The command `luna-daemon`, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import LAUNCHER, SDXL, Daemon


def luna_daemon(*args: str, env: dict[str, str] | None = None, **options: Any) -> Any:
    return subprocess.run(
        [sys.executable, str(LAUNCHER), *args],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **(env or {})},
        **options,
    )


def here(daemon: Daemon) -> list[str]:
    return ["--port=0", f"--runtime-dir={daemon.folder}"]


def test_status_shows_workflows_models_and_who_shares_them(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("portraits", "SDXL", SDXL)
    shown = luna_daemon("status", *here(daemon))
    assert shown.returncode == 0, shown.stderr
    assert "portraits" in shown.stdout
    assert "sdxl/text_encoder_2" in shown.stdout
    snapshot = json.loads(luna_daemon("status", "--json", *here(daemon)).stdout)
    assert snapshot["workflows"][0]["workflow_id"] == "portraits"
    daemon.close_clients()


def test_top_draws_the_status_until_it_is_interrupted(daemon: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, str(LAUNCHER), "top", "--every=0.1", *here(daemon)],
        stdout=subprocess.PIPE,
        text=True,
    ) as shown:
        assert shown.stdout is not None
        heads = 0
        while heads < 2 and (line := shown.stdout.readline()):
            heads += line.startswith("Luna daemon")
        shown.terminate()
    assert heads == 2


def test_logs_prints_the_end_of_the_log(daemon: Daemon) -> None:
    shown = luna_daemon("logs", "-n", "3", *here(daemon))
    assert shown.returncode == 0
    assert 0 < len(shown.stdout.splitlines()) <= 3
    everything = luna_daemon("logs", "-n", "100000", *here(daemon))
    assert "ready on" in everything.stdout


def test_stop_waits_until_the_daemon_has_ended(start_daemon: Any) -> None:
    daemon = start_daemon()
    stopped = luna_daemon("stop", *here(daemon))
    assert stopped.returncode == 0, stopped.stderr
    assert daemon.process.wait(timeout=10) == 0
    again = luna_daemon("stop", *here(daemon))
    assert again.returncode == 2
    assert "Cannot reach the Luna daemon" in again.stderr
    assert "Traceback" not in again.stderr


def test_print_config_shows_every_value_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "luna.yaml"
    file.write_text("max_batch: 4\nlog_level: warning\n")
    shown = luna_daemon(
        *("--print-config", "--config", str(file), "--log-level", "debug"),
        env={"LUNA_MAX_QUEUE": "7"},
    )
    assert shown.returncode == 0, shown.stderr
    values = yaml.safe_load(shown.stdout)
    assert (values["max_batch"], values["max_queue"], values["log_level"]) == (4, 7, "debug")
    assert f"max_batch: 4  # file {file}" in shown.stdout
    assert "max_queue: 7  # environment LUNA_MAX_QUEUE" in shown.stdout
    assert "log_level: debug  # command line" in shown.stdout
    assert "port: 19283  # default" in shown.stdout


def test_an_unknown_setting_is_one_sentence_with_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "luna.yaml"
    file.write_text("clip_devise: cpu\n")
    shown = luna_daemon("--config", str(file))
    assert shown.returncode == 2
    assert (
        shown.stderr.strip()
        == f"luna-daemon: {file}: unknown setting 'clip_devise'. Did you mean 'clip_device'?"
    )


def test_help_lists_every_setting() -> None:
    shown = luna_daemon("--help")
    assert shown.returncode == 0
    for flag in ("--service-type", "--device", "--port", "--model-roots", "--print-config"):
        assert flag in shown.stdout


@pytest.mark.parametrize(
    "command",
    [[str(LAUNCHER)], ["-m", "luna_daemon"]],
    ids=["python luna_daemon/daemon_server.py", "python -m luna_daemon"],
)
def test_every_way_of_starting_reaches_the_same_command(command: list[str]) -> None:
    shown = subprocess.run(
        [sys.executable, *command, "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=LAUNCHER.parent.parent,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count(".") == 2


@pytest.mark.timeout(300)
def test_the_demo_finds_every_result_identical(tmp_path: Path) -> None:
    figures = tmp_path / "demo.json"
    ran = luna_daemon(
        "demo", "--rounds=1", "--size=64", f"--json={figures}", f"--out={tmp_path / 'out'}"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(figures.read_text())
    assert found["identical"] is True
    assert (found["models_loaded"], found["models_if_unshared"]) == (4, 8)
    assert found["calls"] == 30
    assert found["cache_hits"] >= 6
    assert found["memory_mb"] > 0
    assert found["transport"] in ("memfd", "named", "inline")
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 1000

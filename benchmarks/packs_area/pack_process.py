"""A process of ComfyUI's interpreter with one pack in it, which runs the pack's nodes and judges them.

Told and telling in JSON lines: first it tells what it has (`cases`, or why there are none), then each
`{"run": NUMBER}` is answered with a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO


def main(arguments: Sequence[str]) -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="pack_process")
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("base", type=Path, help="ComfyUI's base folder, with models.")
    parser.add_argument("pack", type=Path)
    parser.add_argument("--runtime-dir", type=Path, required=True, help="Of the daemon.")
    parser.add_argument("--policy", choices=("error", "local"), required=True)
    parser.add_argument("--log", type=Path, required=True, help="For what ComfyUI and packs say.")
    options = parser.parse_args(arguments)
    answers = _answers_apart_from_chatter(options.log)
    from .comfy_host import start_comfyui

    host = start_comfyui(options.comfyui, options.base)
    loaded = host.load_pack(options.pack)
    from .runner import Runner

    runner = Runner(host, options.base / "models", options.runtime_dir, options.policy)
    _tell(answers, said=loaded.said, failed=loaded.failed, cases=runner.titles())
    while line := sys.stdin.readline():
        _tell(answers, **_run(runner, json.loads(line)["run"]))
    return 0


def _run(runner: Any, number: int) -> dict[str, Any]:
    try:
        verdict = runner.run(number)
    except Exception:  # noqa: BLE001  # boundary: the other cases go on
        return {"kind": "BROKEN", "detail": f"the comparison failed: {traceback.format_exc()}"}
    return {"kind": verdict.kind, "detail": verdict.detail}


def _answers_apart_from_chatter(log: Path) -> TextIO:
    """Return where answers go; everything else that is printed goes to a file."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    return answers


def _tell(answers: TextIO, **event: Any) -> None:
    answers.write(json.dumps(event) + "\n")
    answers.flush()

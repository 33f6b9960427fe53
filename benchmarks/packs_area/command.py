"""`luna.py packs FOLDER…`: do other packs' nodes give the same on models that the daemon holds?

Exit code 0 when nothing differs silently and nothing breaks; 1 otherwise, and when a pack does not load.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...luna_daemon.demo.comfyui.models import make_lora, make_sd15
from ..comfyui_area.installed import Installed, find, why_none
from ..command import USAGE_ERROR, set_environment
from ..daemon_area.children import Teller
from ..daemon_area.private_daemon import PrivateDaemon
from . import verdicts
from .verdicts import Verdict

POLICIES = ("error", "local")
AREA = "packs_area"


@dataclass
class Outcome:
    """What a pack's cases gave with one policy."""

    pack: str
    policy: str
    failed: str = ""
    said: list[str] = field(default_factory=list)
    cases: list[tuple[str, Verdict]] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        """Whether the pack was not compared, or anything is wrong that must not be."""
        return bool(self.failed) or any(
            verdict.kind in verdicts.FAILURES for _, verdict in self.cases
        )


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    if options.comfyui:
        os.environ["COMFYUI_PATH"] = str(options.comfyui)
    missing = [folder for folder in options.packs if not folder.is_dir()]
    reason = f"There is no folder {missing[0]}." if missing else why_none()
    installed = None if reason else find()
    if installed is None:
        console.print(reason, markup=False)
        return USAGE_ERROR
    with tempfile.TemporaryDirectory(prefix="luna-packs-", ignore_cleanup_errors=True) as folder:
        outcomes = _compare(options, installed, options.folder or Path(folder), console)
    console.print(table_of(outcomes))
    for kind in sorted({verdict.kind for each in outcomes for _, verdict in each.cases}):
        console.print(f"{kind}: {verdicts.MEANINGS[kind]}", markup=False)
    return 1 if any(outcome.is_bad for outcome in outcomes) else 0


def _compare(
    options: argparse.Namespace, installed: Installed, folder: Path, console: Console
) -> list[Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    set_environment(folder)
    # Some packs would install things while they are imported; into nobody's environment from here.
    os.environ["PIP_NO_INDEX"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    base = folder / "comfyui"
    _make_models(base / "models")
    run_folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    daemon = PrivateDaemon(
        run_folder,
        engine="comfy",
        comfyui_path=installed.folder,
        comfyui_python=installed.python,
        model_roots=base / "models",
        worker_threads=1,
    )
    outcomes = []
    with daemon:
        for pack in options.packs:
            for policy in options.policy or POLICIES:
                order = _Order(installed, base, pack.resolve(), policy, daemon.runtime_dir)
                outcomes.append(_run_pack(order, options, console))
    return outcomes


def _make_models(models: Path) -> None:
    """Write the small ones; a pack's process makes the others when it needs them."""
    if not models.is_dir():
        make_sd15(models)
        make_lora(models)
        # Its VAE is a small one of another kind, and would be the first to choose.
        (models / "vae" / "sdxl_vae.safetensors").unlink()


@dataclass(frozen=True)
class _Order:
    installed: Installed
    base: Path
    pack: Path
    policy: str
    runtime_dir: Path

    @property
    def log(self) -> Path:
        return self.base.parent / f"{self.pack.name}-{self.policy}.log"

    def start(self) -> Teller:
        return Teller(
            "pack_process",
            *(str(self.installed.folder), str(self.base), str(self.pack)),
            *("--runtime-dir", str(self.runtime_dir), "--policy", self.policy),
            *("--log", str(self.log)),
            area=AREA,
            python=str(self.installed.python),
        )


def _run_pack(order: _Order, options: argparse.Namespace, console: Console) -> Outcome:
    outcome = Outcome(order.pack.name, order.policy)
    console.rule(f"{outcome.pack}, policy {outcome.policy}")
    process = _Process(order, options.timeout)
    try:
        ready = process.hear()
        if ready is None:
            outcome.failed = "the process ended while it loaded the pack"
            console.print(f"  {outcome.failed}; see {order.log}", markup=False)
            return outcome
        outcome.failed, outcome.said = ready["failed"], ready["said"]
        for text in outcome.said:
            console.print(f"  {text.splitlines()[0]}", markup=False, style="dim")
        for number, title in enumerate(ready["cases"]):
            if options.only not in title:
                continue
            answer = process.ask(run=number)
            verdict = Verdict(**answer) if answer else Verdict(verdicts.ENDED, "see the log")
            outcome.cases.append((title, verdict))
            _show(title, verdict, console)
    finally:
        process.end()
    if outcome.is_bad:
        console.print(f"What was printed meanwhile: {order.log}", markup=False)
    return outcome


class _Process:
    """A pack's process, started anew when it ends or does not come to an end."""

    def __init__(self, order: _Order, timeout: float) -> None:
        self._order, self._timeout = order, timeout
        self._teller = order.start()

    def hear(self) -> dict[str, Any] | None:
        watch = threading.Timer(self._timeout, self._teller.kill)
        watch.start()
        try:
            return self._teller.hear()
        except RuntimeError:
            return None
        finally:
            watch.cancel()

    def ask(self, **told: Any) -> dict[str, Any] | None:
        self._teller.tell(**told)
        answer = self.hear()
        if answer is None:
            self._teller.end()
            self._teller = self._order.start()
            self.hear()
        return answer

    def end(self) -> None:
        self._teller.end()


def _show(title: str, verdict: Verdict, console: Console) -> None:
    style = "bold red" if verdict.kind in verdicts.FAILURES else None
    text = f"  {verdict.kind:<22} {title}"
    console.print(
        f"{text}: {verdict.detail}" if verdict.detail else text, markup=False, style=style
    )


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Return the numbers for people."""
    numbers = [verdicts.counts(verdict for _, verdict in outcome.cases) for outcome in outcomes]
    shown = [kind for kind in verdicts.ALL if any(counts[kind] for counts in numbers)]
    table = Table("pack", "policy", *shown)
    for outcome, counts in zip(outcomes, numbers, strict=True):
        name = f"{outcome.pack} (not loaded)" if outcome.failed else outcome.pack
        table.add_row(name, outcome.policy, *(str(counts[kind] or "") for kind in shown))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="luna.py packs",
        description="Run the nodes of other packs that take a CLIP, a VAE or a CLIP vision model on "
        "ComfyUI's own objects and on models in a daemon, and compare what comes out bit for bit.",
    )
    parser.add_argument("packs", nargs="+", type=Path, metavar="FOLDER", help="a pack's folder")
    parser.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="ComfyUI's folder; default: COMFYUI_PATH"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument(
        "--policy",
        action="append",
        choices=POLICIES,
        help="what proxies do with edits that cannot be remote; default: both, one after the other",
    )
    parser.add_argument(
        "--timeout", type=float, default=300, metavar="SECONDS", help="of one case; default: 300"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="PATH", help="keep model files and logs here"
    )
    return parser

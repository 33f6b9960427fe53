"""`luna-daemon demo --comfyui`: two ComfyUI servers, first as they are, then with one daemon."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...comfyui_folder import PACKAGE_ROOT
from ..interrupts import end_as_by_ctrl_c
from .families import FAMILIES, Family
from .installation import find_installation
from .report import different_images, print_tables, summarize
from .server import Installation, install_pack
from .studio import Studio
from .workflows import with_lora

SERVERS = 2
# Each server has its own, and one that the other draws too: its text is encoded once for both.
TEXTS = (
    ("a lighthouse at dusk", "an old harbour", "a red fox in a scarf"),
    ("a castle on a cliff", "a market in the rain", "a red fox in a scarf"),
)
# Servers that are short of RAM let go of what a loader gave as soon as a workflow has run, unless they are
# told to keep it; who shares which models is counted at the end.
KEEP_OUTPUTS = "--cache-classic"
Prompt = dict[str, Any]
console = Console()


def run(named: Path | None, rounds: int, family: str) -> dict[str, Any]:
    """Draw with ComfyUI alone, then through the daemon; print what was found and return the figures.

    Args:
        named: ComfyUI's folder; None: the one that COMFYUI_PATH names, or around this pack.
        rounds: How often each server goes through its texts, with another seed each time.
        family: Whose models it draws with; a key of FAMILIES.

    Raises:
        InputError: There is no ComfyUI, or its Python lacks what the pack needs.
        InternalError: A server does not start, or a workflow fails.
    """
    comfyui = find_installation(named)
    end_as_by_ctrl_c()
    _forget_settings()
    console.print(f"ComfyUI in {comfyui.root}, run by {comfyui.python}, on the CPU.")
    with tempfile.TemporaryDirectory(prefix="luna-demo-") as temporary:
        return _compare(comfyui, Path(temporary), rounds, FAMILIES[family])


def _compare(comfyui: Installation, base: Path, rounds: int, family: Family) -> dict[str, Any]:
    with console.status(f"Making {family.title} with random weights …"):
        family.make(base / "models")
        install_pack(PACKAGE_ROOT, base)
    plain = [KEEP_OUTPUTS, "--disable-all-custom-nodes"]
    with _boot("Starting plain ComfyUI servers", comfyui, base, plain) as s:
        wanted = _draw("Without the daemon", s, _jobs(family, family.plain, rounds))
        plain_memory = s.memory()
    with _boot("Starting ComfyUI servers with the pack", comfyui, base, [KEEP_OUTPUTS]) as s:
        drawn = _draw("With the daemon", s, _jobs(family, family.shared, rounds))
        memory, status = s.memory(), s.status()
    different = different_images(wanted, drawn)
    figures = summarize(wanted, different, plain_memory, memory, status)
    print_tables(console, figures, status)
    return figures


def _boot(title: str, comfyui: Installation, base: Path, options: Sequence[str]) -> Studio:
    studio = Studio(comfyui, base, SERVERS, options)
    with console.status(f"{title} …"):
        studio.open()
    return studio


def _jobs(
    family: Family, workflow: Callable[[str], Prompt], rounds: int
) -> list[dict[str, Prompt]]:
    """Return each server's workflows by name: every text, plain and, where there is one, with a LoRA."""
    jobs: list[dict[str, Prompt]] = []
    for number, texts in enumerate(TEXTS, 1):
        prompts = {}
        for seed in range(rounds):
            for text in texts:
                prompt = workflow(text)
                prompt["5"]["inputs"]["seed"] = seed
                # The servers save into one folder, where files are numbered by their prefix.
                prompt["7"]["inputs"]["filename_prefix"] = f"server-{number}"
                prompts[f"{text}, seed {seed}"] = prompt
                if family.has_lora:
                    prompts[f"{text}, seed {seed}, with a LoRA"] = with_lora(prompt)
        jobs.append(prompts)
    return jobs


def _draw(
    title: str, studio: Studio, jobs: Sequence[Mapping[str, Prompt]]
) -> list[dict[str, bytes]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = [
            progress.add_task(f"{title}: server {number}", total=len(prompts))
            for number, prompts in enumerate(jobs, 1)
        ]
        return studio.draw(jobs, lambda number: progress.advance(bars[number]))


def _forget_settings() -> None:
    """Drop what the user has set for a daemon of theirs: it must not reach ours."""
    for name in [name for name in os.environ if name.startswith("LUNA_")]:
        del os.environ[name]

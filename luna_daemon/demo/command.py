"""`luna-daemon demo`: workflows share text encoders and a VAE, and nothing changes but the memory."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

FAMILIES = ("sd15", "sdxl")  # the keys of the table in comfyui/families.py
console = Console()


def main(args: Sequence[str]) -> int:
    """Run the demonstration; exit code 0 when all results are what they are without the daemon."""
    if args and args[0] == "client":
        from .client_process import main as run_client

        return run_client(args[1:])
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # seven processes share the cores
    options = _options(args)
    started = time.monotonic()
    if options.comfyui is not None:
        from .comfyui.command import run

        named = Path(options.comfyui) if options.comfyui else None
        figures = run(named, options.rounds, options.family)
    else:
        with tempfile.TemporaryDirectory(prefix="luna-demo-") as temporary:
            figures = _run(options, Path(temporary))
        noise = "" if options.models else " (random weights give noise)"
        console.print(f"Contact sheet: {options.out / 'contact_sheet.png'}{noise}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        console.print(f"Figures: {options.json}")
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    return 0 if figures["identical"] else 1


def _options(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="luna-daemon demo",
        description="Run three workflows in three processes, first with models of their own, then "
        "through a daemon, and compare results, memory and models loaded.",
    )
    parser.add_argument(
        "--comfyui",
        nargs="?",
        const="",
        metavar="PATH",
        help="Show it on two real ComfyUI servers, on the CPU, with tiny models made here; default for "
        "PATH: COMFYUI_PATH, or the ComfyUI that this checkout is in. --models, --out and --size have "
        "no meaning there.",
    )
    parser.add_argument(
        "--family",
        choices=FAMILIES,
        help="With --comfyui: sd15 (default), whose tiny models show that nothing changes, or sdxl, with "
        "text encoders of real size that show what sharing saves; it needs 8 GB of memory, 2 GB of disk and some minutes.",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="Real model repositories in diffusers' layout; default: tiny ones with random weights, made here.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="Where the contact sheet goes (default: luna_demo).",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures to this file.")
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="Side of the images, a multiple of 64 (default: 256).",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        metavar="N",
        help="How often each workflow goes through its prompts (default: 2).",
    )
    options = parser.parse_args(args)
    if options.comfyui is not None:
        unused = [name for name in ("models", "out", "size") if getattr(options, name) is not None]
        if unused:
            parser.error(f"--{unused[0]} has no meaning with --comfyui.")
    elif options.family is not None:
        parser.error("--family has a meaning with --comfyui only.")
    options.family = options.family or FAMILIES[0]
    options.out = Path("luna_demo") if options.out is None else options.out
    options.size = 256 if options.size is None else options.size
    if options.size < 64 or options.size % 64 or options.rounds < 1:
        parser.error("--size must be a multiple of 64, and --rounds at least 1.")
    return options


def _run(options: argparse.Namespace, temporary: Path) -> dict[str, object]:
    from ..gpus import gpu_memory
    from ..supervisor import resolve_device
    from .plan import find_repositories, make_plan
    from .processes import DemoDaemon, run_clients
    from .report import compare, draw_contact_sheet, print_tables, summarize

    models = options.models.resolve() if options.models else _tiny_models(temporary)
    repositories = find_repositories(models)
    plans = make_plan(repositories, options.size, options.rounds)
    device = resolve_device("auto", "vae", len(gpu_memory()))
    alone = run_clients(
        "Without the daemon: each workflow loads its own models.",
        plans,
        temporary / "alone",
        ["--device", device],
    )
    with DemoDaemon(temporary / "run", repositories, device) as daemon:
        shared = run_clients(
            "With the daemon: all workflows share its models.",
            plans,
            temporary / "shared",
            ["--runtime-dir", str(daemon.runtime_dir)],
            others=[daemon.process.pid],
        )
        status = daemon.status()
    different = compare(plans, alone, shared)
    figures = summarize(plans, alone, shared, different, status)
    print_tables(plans, different, status, figures)
    draw_contact_sheet(plans, shared, options.out / "contact_sheet.png")
    return figures


def _tiny_models(folder: Path) -> Path:
    with console.status("Making tiny models with random weights …"):
        from .tiny_models import make_sd15_like, make_sdxl_like

        make_sdxl_like(folder / "models" / "tiny-sdxl")
        make_sd15_like(folder / "models" / "tiny-sd15")
    return folder / "models"

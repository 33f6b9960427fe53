"""`luna.py convert`, `extract` and `inspect`: diffusion models in other precisions, parts of checkpoints, what a file is.

Run it with the interpreter of .venv: python scripts/weights.py convert model.safetensors --to q4_k_m
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
FAILED, INTERRUPTED = 1, 130
_LONGEST_TEXT = 200  # of what a file says of itself, unless all of it is asked for


def main(arguments: Sequence[str]) -> int:
    """Run a command; 1 when a file could not be converted or read."""
    sys.path.insert(0, str(ROOT / "luna_daemon"))
    importlib.import_module("package_alias").load_package()
    sys.path.pop(0)
    targets = _module("targets")
    parser = _parser(targets.TARGETS)
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if options.command == "extract":
        return _extract_all(options, console)
    if options.command == "inspect":
        return max(_inspect(path, options.all, console) for path in options.file)
    if options.list:
        console.print(_target_table(targets.TARGETS))
        return 0
    if not options.source or not options.to:
        parser.error(
            "convert needs a source, and --to with a precision; --list shows those there are"
        )
    return _convert_all(options, console)


def _module(name: str) -> Any:
    return importlib.import_module(f"luna_collection.utils.conversion.{name}")


def _error_type() -> Any:
    return importlib.import_module("luna_collection.utils.errors").LunaError


def _stopped_by_signals() -> list[int]:
    """Return a list that has the signals in it which asked to stop."""
    stopped: list[int] = []
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda number, frame: stopped.append(number))
    return stopped


def _extract_all(options: argparse.Namespace, console: Console) -> int:
    stopped = _stopped_by_signals()
    results = [0 if stopped else _extract(path, options, console, stopped) for path in options.file]
    return INTERRUPTED if stopped else max(results)


def _extract(path: Path, options: argparse.Namespace, console: Console, stopped: list[int]) -> int:
    models = options.output or _module("locations").models_folder(path)
    try:
        with _progress_bar(console) as bar:
            run = _run(bar, f"taking {path.name} apart", stopped)
            parts = _module("taking_apart").take_apart(path, models, run)
    except _module("refusal").ConversionCancelledError as error:
        console.print(f"{path.name}: {error}")
        return INTERRUPTED
    except _error_type() as error:
        console.print(f"{path.name}: {error}", style="red", markup=False)
        return FAILED
    for kind, part in parts.items():
        done = "written" if part.made else "was there already"
        console.print(f"{kind}: {part.path} {done}.", markup=False)
    return 0


def _convert_all(options: argparse.Namespace, console: Console) -> int:
    stopped = _stopped_by_signals()
    results = [
        0 if stopped else _convert(path, target, options, console, stopped)
        for path in options.source
        for target in options.to
    ]
    return INTERRUPTED if stopped else max(results)


def _convert(
    path: Path, target: str, options: argparse.Namespace, console: Console, stopped: list[int]
) -> int:
    refusal = _module("refusal")
    try:
        converted = _with_progress(path, target, options, console, stopped)
    except refusal.ConversionCancelledError as error:
        console.print(f"{path.name}: {error}")
        return INTERRUPTED
    except _error_type() as error:
        console.print(f"{path.name}: {error}", style="red", markup=False)
        return FAILED
    done = "made" if converted.made else "was there already, made of the same file"
    size = converted.path.stat().st_size
    share = size / converted.sidecar.identity.size
    console.print(
        f"{converted.path} ({size / 1e9:.2f} GB, {share:.0%} of the source) {done}.", markup=False
    )
    for note in converted.notes:
        console.print(note, style="yellow", markup=False)
    console.print(_quality_table(converted.sidecar))
    worst = _module("quality_report").worst_layers(converted.sidecar)
    for name, kind, error in worst if options.worst else ():
        console.print(f"  {error:.4f}  {kind:8} {name}", markup=False)
    return 0


def _with_progress(
    path: Path, target: str, options: argparse.Namespace, console: Console, stopped: list[int]
) -> Any:
    converting, output = _module("converting"), options.output
    with _progress_bar(console) as bar:
        run = _run(bar, f"{path.name} → {target}", stopped, options.device)
        if output is not None and output.suffix in (".safetensors", ".gguf"):
            return converting.convert_to(path, target, output, run)
        folder = output or _module("locations").default_folder(path)
        return converting.converted_once(path, target, folder, run)


def _progress_bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _run(bar: Progress, title: str, stopped: list[int], device: str = "cpu") -> Any:
    task = bar.add_task(title, total=None)

    def show(progress: Any) -> None:
        bar.update(task, completed=progress.done, total=progress.total)

    return _module("streaming").Run(show, lambda: bool(stopped), device)


def _quality_table(sidecar: Any) -> Table:
    table = Table("type", "layers", "error (rmse)", "largest error", "smallest cosine", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _module("quality_report").quality_of_types(sidecar):
        errors = (f"{row.rmse:.5f}", f"{row.worst:.5f}", f"{row.cosine:.6f}")
        table.add_row(row.type, str(row.layers), *errors)
    return table


def _target_table(targets: Any) -> Table:
    table = Table("precision", "bits a weight", "for", box=None)
    for target in targets.values():
        table.add_row(target.name, f"{target.bits:.2f}", target.advice)
    return table


def _inspect(path: Path, everything: bool, console: Console) -> int:
    try:
        report = _module("inspecting").inspect_file(path)
    except (_error_type(), OSError) as error:
        console.print(f"{path}: {error}", style="red", markup=False)
        return FAILED
    facts = {
        "file": str(report.path),
        "size": f"{report.size / 1e9:.3f} GB",
        "holds": report.contents,
        "architecture": report.architecture,
        "layout": report.layout,
        "prefix": report.prefix,
        **{f"largest, {size / 1e6:.1f} MB": name for name, size in report.largest},
    }
    if report.sidecar is not None:
        made = report.sidecar
        facts["made of"] = f"{made.source} ({made.target}, {made.created}, {made.tool})"
        facts["used last"] = made.used
    facts |= {key: _short(text, everything) for key, text in report.texts.items()}
    grid = Table.grid(padding=(0, 2))
    for key, text in facts.items():
        if text:
            grid.add_row(_plain(key), _plain(text))
    console.print(grid)
    table = Table("type", "tensors", "weights", "MB", box=None)
    for kind, use in report.types.items():
        table.add_row(kind, str(use.tensors), f"{use.elements:,}", f"{use.size / 1e6:,.1f}")
    console.print(table)
    if report.sidecar is not None:
        console.print(_quality_table(report.sidecar))
    return 0


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _short(text: str, everything: bool) -> str:
    one = " ".join(text.split())
    if everything or len(one) <= _LONGEST_TEXT:
        return one
    return f"{one[:_LONGEST_TEXT]}… ({len(text)} characters; --all shows them)"


def _parser(targets: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="luna.py", description="Diffusion models in other precisions."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser("convert", help="write diffusion models in another precision")
    convert.add_argument(
        "source",
        type=Path,
        nargs="*",
        metavar="SRC",
        help="checkpoint or diffusion model: safetensors (of one in parts any part), or GGUF in F16, BF16 or F32",
    )
    convert.add_argument(
        "--to",
        action="append",
        metavar="PRECISION",
        help=f"one of {', '.join(targets)}; may be given more than once",
    )
    convert.add_argument(
        "--output",
        type=Path,
        metavar="PLACE",
        help="a file, or a folder for diffusion models, below which it gets a folder such as fp8 or gguf; "
        "default: the folder 'unet' of the models folder that the source lies in, else beside the source",
    )
    convert.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="where the arithmetic is done: auto, cpu, cuda, or cuda:1 for the second graphics card; the file is "
        "the same, and auto takes a graphics card where there is one",
    )
    convert.add_argument("--worst", action="store_true", help="name the layers that lost most")
    convert.add_argument("--list", action="store_true", help="list the precisions, and end")
    extract = commands.add_parser(
        "extract", help="write a checkpoint's text encoders and VAE as files of their own"
    )
    extract.add_argument(
        "file", type=Path, nargs="+", metavar="FILE", help="checkpoint, safetensors"
    )
    extract.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="a models folder, below which they go to text_encoders and vae; default: the one that the "
        "checkpoint lies in",
    )
    inspect = commands.add_parser("inspect", help="say what a weight file is")
    inspect.add_argument("file", type=Path, nargs="+", metavar="FILE")
    inspect.add_argument("--all", action="store_true", help="show long texts whole")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

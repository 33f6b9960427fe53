"""Converts the models of a folder, one after the other, and says of each what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError, LunaError
from ..weights.model_parts import is_later_part
from .converting import ALONE, Converted, converted_again, converted_once
from .refusal import ConversionCancelledError, ConversionRefusedError, Reason
from .source_files import SAFETENSORS
from .streaming import Progress, Run

# With these there is nothing to convert; it is no failure that the file stays as it is.
_NOTHING_TO_DO = (Reason.SAME_PRECISION, Reason.QUANTISED, Reason.NO_MODEL)
_STEPS = 1000  # of the progress of one file


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be converted.

    Attributes:
        sources: The folder; folders below it are left out.
        target: Name of a target in targets.py.
        folder: The folder for diffusion models, below which the files are put.
        at_most: How many files are converted at most; those that are there already do not count.
        skips_existing: Leave out what is there already?
    """

    sources: Path
    target: str
    folder: Path
    at_most: int
    skips_existing: bool = True


@dataclass(slots=True)
class BatchReport:
    """What came of it.

    Attributes:
        lines: A line for each file: OK, SKIP or FAIL, and why.
        converted: How many were made.
        failed: How many could not be made.
    """

    lines: list[str] = field(default_factory=list)
    converted: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return "\n".join([*self.lines, f"{self.converted} converted, {self.failed} failed"])


def convert_folder(batch: Batch, run: Run = ALONE) -> BatchReport:
    """Convert the safetensors files of a folder.

    Raises:
        ConversionCancelledError: Somebody asked to stop.
        InputError: There are no such files, or there is no such precision.
    """
    ending = (p for p in batch.sources.iterdir() if p.suffix.lower() in SAFETENSORS)
    files = sorted(path for path in ending if not is_later_part(path))
    if not files:
        raise InputError(
            f"There are no safetensors files in '{batch.sources}'.", "Choose another folder."
        )
    report = BatchReport()
    convert = converted_once if batch.skips_existing else converted_again
    for number, path in enumerate(files):
        if report.converted + report.failed >= batch.at_most:
            report.lines.append(f"{len(files) - number} more files were not looked at: max_files")
            break

        def show(progress: Progress, number: int = number, name: str = path.name) -> None:
            done = number * _STEPS + _STEPS * progress.done // max(progress.total, 1)
            run.on_progress(Progress(done, len(files) * _STEPS, name))

        try:
            made = convert(path, batch.target, batch.folder, replace(run, on_progress=show))
        except ConversionCancelledError:
            raise
        except LunaError as error:
            _note_error(report, path, error)
        else:
            _note(report, path, made)
    return report


def _note(report: BatchReport, path: Path, made: Converted) -> None:
    if made.made:
        report.converted += 1
        size = made.path.stat().st_size / 1e6
        report.lines.append(f"OK {path.name}: {made.path.name}, {size:.1f} MB")
        report.lines.extend(f"   {note}" for note in made.notes)
    else:
        report.lines.append(f"SKIP {path.name}: {made.path.name} is there already")


def _note_error(report: BatchReport, path: Path, error: LunaError) -> None:
    if isinstance(error, ConversionRefusedError) and error.reason in _NOTHING_TO_DO:
        report.lines.append(f"SKIP {path.name}: {error.reason.value}")
    else:
        report.failed += 1
        report.lines.append(f"FAIL {path.name}: {error}")

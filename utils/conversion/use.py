"""A diffusion model in the precision that somebody chose, or as it is where converting it would gain nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .converting import ALONE, converted_once
from .refusal import ConversionRefusedError, Reason
from .streaming import Run
from .targets import find_target

# With these the file can be used as it is: it is small, or what was asked for, already.
_AS_IT_IS = (Reason.SAME_PRECISION, Reason.QUANTISED)
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Used:
    """The file to load.

    Attributes:
        path: Where it is: a converted file, or the source itself.
        note: A sentence about what was done, for the person who chose.
    """

    path: Path
    note: str


def in_precision(source: Path, precision: str, folder: Path, run: Run = ALONE) -> Used:
    """Return the file of a model in a precision: found, made now, or the source with the reason.

    Args:
        source: A checkpoint or a diffusion model.
        precision: Name of a target in targets.py.
        folder: The folder for diffusion models that converted files lie below.
        run: Who waits for it, and where the arithmetic is done.

    Raises:
        ConversionRefusedError: It cannot be converted, and as it is it would not be what was chosen.
        ConversionCancelledError: Somebody asked to stop.
        LunaError: The source is damaged, or the file cannot be written.
    """
    label = find_target(precision).label
    try:
        converted = converted_once(source, precision, folder, run)
    except ConversionRefusedError as refused:
        if refused.reason not in _AS_IT_IS:
            raise
        return Used(source, f"Precision: {refused.message} It is used as it is.")
    place = converted.path.relative_to(folder) if converted.path.is_relative_to(folder) else None
    name = place.as_posix() if place else str(converted.path)
    size, before = converted.path.stat().st_size / _MB, converted.sidecar.identity.size / _MB
    done = "was made now" if converted.made else "was made earlier"
    said = (
        f"Precision: {label}, '{name}' {done} of '{source.name}' ({size:.0f} MB; {before:.0f} MB)."
    )
    return Used(converted.path, " ".join((said, *converted.notes)))

"""Diffusion models as a loader opens them: in the precision that was chosen, or as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...utils.routing.choice import NOTHING
from ...utils.weights.shelf import ModelFile
from ..conversions import MODEL_LIST, convert
from ..local_models import open_model


class PreciseModels:
    """Opens diffusion models in one precision.

    Args:
        precision: Name of a target, or "None" for what the file has.
        folder: Where converted files go; None: the usual place.

    Attributes:
        notes: Sentences about what was converted, for the status.
        path: Where the file lies that was asked for last; empty before.
    """

    def __init__(self, precision: str, folder: Path | None = None) -> None:
        self.notes: list[str] = []
        self.path = ""
        self._precision, self._folder = precision, folder

    def open(self, file: ModelFile) -> Any:
        """Load a diffusion model."""
        return open_model(self.file(file))

    def file(self, file: ModelFile) -> ModelFile:
        """Return the file to load instead; it is made now, where nobody has made it before."""
        self.path = str(file.path)
        if self._precision == NOTHING:
            return file
        used = convert(file.path, self._precision, self._folder)
        self.notes.append(used.note)
        if used.path == file.path:
            return file
        self.path = str(used.path)
        return ModelFile(MODEL_LIST, used.path.name, used.path)

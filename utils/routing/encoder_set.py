"""Which family a set of text encoder files belongs to."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..model_types import KINDS_OF_ROLE, MODEL_TYPES, ModelType
from ..weights.shelf import ModelFile
from .fitting import quoted


def order_for_a_family(files: Sequence[ModelFile]) -> tuple[ModelType, tuple[ModelFile, ...]]:
    """Return the first family that takes exactly these text encoders, and the files in its order.

    Raises:
        InputError: No family does; the message says what the files are.
    """
    for kind in MODEL_TYPES.values():
        by_role = [
            [file for file in files if file.contents.encoder in KINDS_OF_ROLE[role]]
            for role in kind.text_encoders
        ]
        if by_role and len(by_role) == len(files) and all(len(fits) == 1 for fits in by_role):
            return kind, tuple(fits[0] for fits in by_role)
    what = "; ".join(f"'{file.name}' is {file.contents}" for file in files)
    types = quoted(kind.name for kind in MODEL_TYPES.values() if kind.text_encoders)
    raise InputError(
        f"These text encoders together belong to none of {types}: {what}.",
        "Choose the type yourself.",
    )

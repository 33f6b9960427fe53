"""LUNA_PIPE: everything that a run is made of, by name.

Older workflows have tuples of 14 or of 8 values in its place; both are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

_OLDER = ("model", "clip", "vae", "positive", "negative", "seed", "sampler", "scheduler")


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """A run. None: the pipe does not say it. In the order of the older tuple of 14."""

    model: Any = None
    clip: Any = None
    vae: Any = None
    positive: Any = None
    negative: Any = None
    latent: Any = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | None = None
    denoise: float | None = None
    sampler: str | None = None
    scheduler: str | None = None

    def need(self, names: Iterable[str]) -> None:
        """Check that the pipe says all of these.

        Raises:
            InputError: It does not.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise InputError(
                f"The pipe has no {', '.join(missing)}.",
                "Link it from a Luna Config Gateway, or link these inputs.",
            )


FIELDS = tuple(field.name for field in dataclasses.fields(Pipe))


def read_pipe(value: object) -> Pipe:
    """Return a pipe of any form.

    Raises:
        InputError: It is none.
    """
    if isinstance(value, Pipe):
        return value
    if isinstance(value, Mapping):
        return Pipe(**{name: value[name] for name in FIELDS if name in value})
    if isinstance(value, (list, tuple)):
        for names in (FIELDS, _OLDER):
            if len(value) == len(names):
                return Pipe(**dict(zip(names, value, strict=True)))
    size = f" of {len(value)}" if isinstance(value, (list, tuple)) else ""
    raise InputError(
        f"This is no LUNA_PIPE: {type(value).__name__}{size}.",
        "Link it from a Luna Config Gateway. Tuples of 14 and of 8 values, as older versions made "
        "them, are read, too.",
    )

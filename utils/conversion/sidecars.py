"""The note beside a converted file: what it was made of and how, and when it was used last.

`model_Q8_0.gguf.luna.json` is JSON. A file without one is none of ours, and is never replaced or removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..whole_file import write_whole
from .source_files import Identity

ENDING = ".luna.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is noted of a converted file.

    Attributes:
        target: Name of the target in targets.py.
        recipe: Version of the recipe that it was made with.
        source: Path of the source.
        identity: Which file that was.
        size: Bytes of the converted file.
        head: Bytes before its first tensor.
        digest: SHA-256 of those, in hex.
        tool: Name and version of what made it.
        created: When, in ISO 8601 and UTC.
        used: When it was asked for last, in ISO 8601 and UTC.
        layers: Name of a tensor → its type, and its error against the source.
    """

    target: str
    recipe: int
    source: str
    identity: Identity
    size: int
    head: int
    digest: str
    tool: str
    created: str
    used: str
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a file lies."""
    return path.with_name(path.name + ENDING)


def read_sidecar(path: Path) -> Sidecar | None:
    """Return the sidecar of a converted file, or None where there is none that can be read."""
    try:
        fields = json.loads(sidecar_path(path).read_bytes())
        if fields.pop("format") != _FORMAT:
            return None
        datetime.fromisoformat(fields["used"])
        return Sidecar(**{**fields, "identity": Identity(**fields["identity"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write the sidecar of a converted file.

    Raises:
        InputError: It cannot be written.
    """
    fields = {"format": _FORMAT, **asdict(sidecar)}
    text = json.dumps(fields, ensure_ascii=False, indent=1)
    # Names of files may hold bytes that are no text.
    write_whole(sidecar_path(path), text.encode("utf-8", "surrogatepass"))


def fits(path: Path, sidecar: Sidecar) -> bool:
    """Tell whether a file is the one that a sidecar was written for."""
    try:
        with path.open("rb") as file:
            return (
                os.fstat(file.fileno()).st_size == sidecar.size
                and hashlib.sha256(file.read(sidecar.head)).hexdigest() == sidecar.digest
            )
    except OSError:
        return False


def now() -> str:
    """Return the time as sidecars have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""What lies beside a LoRA's file: notes of other tools, as JSON, and a preview image.

Read: our own and AUTOMATIC1111's `<stem>.json`, Civitai's `<stem>.civitai.json` and `.civitai.info`,
Lora-Manager's `<stem>.metadata.json`, rgthree's `<file>.rgthree-info.json`, Stability Matrix's
`<stem>.cm-info.json` and SwarmUI's `<stem>.swarm.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelFileError

MAX_SIDECAR_BYTES = 16_000_000
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
# What follows the stem; the first that there is comes first.
_OF_STEM = (
    ".json",
    ".civitai.json",
    ".civitai.info",
    ".metadata.json",
    ".cm-info.json",
    ".swarm.json",
)
_OF_FILE = (".rgthree-info.json",)
NOTES = ".json"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One of them.

    Attributes:
        file: Its name.
        ending: What it is, such as ".civitai.info".
        content: A JSON object.
    """

    file: str
    ending: str
    content: dict[str, Any]


def read_sidecars(lora: Path) -> tuple[list[Sidecar], list[str]]:
    """Return the sidecars of a LoRA, and a sentence for each that cannot be read."""
    found, problems = [], []
    for path, ending in _candidates(lora):
        if not path.is_file():
            continue
        try:
            found.append(Sidecar(path.name, ending, _read(path)))
        except ModelFileError as error:
            problems.append(str(error))
    return found, problems


def find_preview(lora: Path) -> Path | None:
    """Return the preview image beside a LoRA, or None."""
    stem = lora.with_suffix("").name
    names = [f"{stem}{middle}{ending}" for middle in (".preview", "") for ending in _IMAGES]
    return next((lora.with_name(name) for name in names if lora.with_name(name).is_file()), None)


def _candidates(lora: Path) -> Iterator[tuple[Path, str]]:
    stem = lora.with_suffix("").name
    for ending in _OF_STEM:
        yield lora.with_name(stem + ending), ending
    for ending in _OF_FILE:
        yield lora.with_name(lora.name + ending), ending


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise ModelFileError(
            f"'{path.name}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if len(raw) > MAX_SIDECAR_BYTES:
        raise ModelFileError(
            f"'{path.name}' has more than {MAX_SIDECAR_BYTES // 1_000_000} MB.",
            "It is not read; make it smaller or delete it.",
        )
    try:
        content = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"'{path.name}' is not valid JSON.", "Correct it, or delete it and fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"'{path.name}' is no JSON object.", "Correct it, or delete it.")
    return content

"""What a page shows of a LoRA: the fields of its header, a small picture, and the notes beside it."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..errors import ModelFileError
from ..weights.safetensors_header import read_safetensors_header
from ..weights.shelf import READABLE
from .sidecars import NOTES, Sidecar, find_preview, read_sidecars
from .trigger_sets import header_triggers, sets_of_sidecar

SIDE = 256  # pixels
_MAX_FIELD = 4000  # characters of a header's field: training tags can be megabytes
_MAX_IMAGE_BYTES = 64_000_000
_MAX_PIXELS = 80_000_000  # a small file can unpack to gigabytes
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|jpg|webp);base64,(.+)", re.DOTALL)
_THUMBNAIL = "modelspec.thumbnail"


def lora_preview(lora: Path) -> dict[str, Any]:
    """Return `{"metadata", "thumbnail", "user_lore", "triggers", "problems"}`.

    `metadata` has the texts of the header without the picture, long ones cut; `thumbnail` is a data URL or
    None; `user_lore` is what `<stem>.json` says, or None; `triggers` are its trigger words; `problems` are
    sentences for the person.
    """
    metadata, problems = _header_fields(lora)
    sidecars, unreadable = read_sidecars(lora)
    problems += unreadable
    thumbnail = None
    try:
        thumbnail = _thumbnail(lora, metadata)
    except ModelFileError as error:
        problems.append(str(error))
    notes = next((each.content for each in sidecars if each.ending == NOTES), None)
    shown = {key: _cut(text) for key, text in metadata.items() if key != _THUMBNAIL}
    return {
        "metadata": shown,
        "thumbnail": thumbnail,
        "user_lore": notes,
        "triggers": _triggers(metadata, sidecars),
        "problems": problems,
    }


def _triggers(metadata: Mapping[str, str], sidecars: Iterable[Sidecar]) -> list[str]:
    beside = next(filter(None, map(sets_of_sidecar, sidecars)), ())
    sets = beside or header_triggers(metadata)[1]
    return list(dict.fromkeys(word for each in sets for word in each.words))


def _header_fields(lora: Path) -> tuple[Mapping[str, str], list[str]]:
    if lora.suffix.lower() not in READABLE:
        return {}, []
    try:
        return read_safetensors_header(lora).metadata, []
    except ModelFileError as error:
        return {}, [str(error)]


def _thumbnail(lora: Path, metadata: Mapping[str, str]) -> str | None:
    beside = find_preview(lora)
    if beside is not None:
        return _small(_bytes_of(beside), beside.name)
    embedded = _DATA_URL.fullmatch(metadata.get(_THUMBNAIL, "").strip())
    if embedded is None:
        return None
    name = f"picture inside {lora.name}"
    try:
        return _small(base64.b64decode(embedded[1], validate=True), name)
    except binascii.Error as error:
        raise ModelFileError(f"The {name} cannot be read: {error}.") from error


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise ModelFileError(f"'{path.name}' cannot be read: {error.strerror}.") from error
    if len(raw) > _MAX_IMAGE_BYTES:
        raise ModelFileError(f"'{path.name}' is too large for a preview.", "Make it smaller.")
    return raw


def _small(raw: bytes, name: str) -> str:
    """Return a picture as a data URL of a small JPEG."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ModelFileError(f"'{name}' is too large for a preview.", "Make it smaller.")
            image.thumbnail((SIDE, SIDE))
            small = image.convert("RGB")
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ModelFileError(
            f"'{name}' is no picture that can be shown: {error}.", "Replace it."
        ) from error
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_FIELD else text[: _MAX_FIELD - 1] + "…"

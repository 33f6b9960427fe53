"""Prompts of pictures → a list that the loader reads, and captions for training."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..loras.stack import LoraEntry, merge
from ..metadata.extraction import prompt_of_picture
from ..metadata.found_prompt import FoundPrompt
from ..metadata.picture_texts import ENDINGS
from ..prompts.lora_tags import take_tags

_EMBEDDING = re.compile(r"\bembedding:([^\s,:()<>\[\]{}|]+)", re.IGNORECASE)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a folder's pictures gave.

    Attributes:
        scanned: How many pictures there are.
        records: A table for each picture with a prompt, as the list has it.
        pictures: The files of these, in the same order.
        problems: A sentence for each picture without a prompt, or that cannot be read, and for LoRAs.
    """

    scanned: int
    records: tuple[dict[str, Any], ...]
    pictures: tuple[Path, ...]
    problems: tuple[str, ...]


def pictures_in(folder: Path) -> list[Path]:
    """Return a folder's pictures by name, without those of folders below it."""
    with os.scandir(folder) as items:
        found = [Path(item.path) for item in items if item.is_file()]
    return sorted(
        (path for path in found if path.suffix.lower() in ENDINGS), key=lambda path: path.name
    )


def extract(pictures: Sequence[Path], with_paths: bool, progress: Progress) -> Extraction:
    """Read the prompts of pictures.

    Args:
        pictures: Files.
        with_paths: Write where each picture is.
        progress: Called with (read, all) before each picture and at the end; what it raises ends all.
    """
    records, kept, problems = [], [], []
    for number, path in enumerate(pictures):
        progress(number, len(pictures))
        try:
            texts, found = prompt_of_picture(path)
        except InputError as error:
            problems.append(str(error))
            continue
        if found is None:
            problems.append(f"'{path.name}' says nothing about its prompt.")
            continue
        record, notes = record_of(found, path, (texts.width, texts.height))
        if with_paths:
            record["image_path"] = path.as_posix()
        records.append(record)
        kept.append(path)
        problems += [f"'{path.name}': {note}" for note in notes]
    progress(len(pictures), len(pictures))
    return Extraction(len(pictures), tuple(records), tuple(kept), tuple(problems))


def record_of(
    found: FoundPrompt, path: Path, size: tuple[int, int]
) -> tuple[dict[str, Any], list[str]]:
    """Return a picture's entry for the list, and what is to be said of it.

    LoRA tags leave the prompt for `loras`; embeddings stay, as they are words of the prompt.
    """
    positive, loras, notes = _without_tags(found.positive)
    negative, negative_loras, more = _without_tags(found.negative)
    merged = merge(found.loras, [*loras, *negative_loras])
    embeddings = _EMBEDDING.findall(f"{positive}\n{negative}")
    record = {
        "positive_prompt": positive,
        "negative_prompt": negative,
        "loras": [_lora(lora) for lora in merged],
        "embeddings": list(dict.fromkeys(embeddings)),
        "extra": {**found.settings, "source": found.source},
        "image_name": path.name,
        "width": found.width or size[0],
        "height": found.height or size[1],
    }
    return record, notes + more


def as_json(records: Sequence[dict[str, Any]]) -> bytes:
    """Return the list's file: an entry's fields below each other, as people read it."""
    return _encoded(json.dumps(list(records), indent=2, ensure_ascii=False) + "\n")


def captions(extraction: Extraction) -> dict[Path, bytes]:
    """Return the text files for training: beside each picture, with its prompt."""
    found: dict[Path, bytes] = {}
    for path, record in zip(extraction.pictures, extraction.records, strict=True):
        if record["positive_prompt"]:
            found.setdefault(path.with_suffix(".txt"), _encoded(record["positive_prompt"] + "\n"))
    return found


def _encoded(text: str) -> bytes:
    # Half of a surrogate pair, as JSON can hold it, is no text that UTF-8 has.
    return text.encode("utf-8", "replace")


def _without_tags(prompt: str) -> tuple[str, tuple[LoraEntry, ...], list[str]]:
    try:
        tagged = take_tags(prompt)
    except InputError as error:
        return prompt, (), [f"{error.message} It stays in the prompt."]
    return tagged.text, tagged.loras, list(tagged.notes)


def _lora(lora: LoraEntry) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": lora.name,
        "model_strength": lora.model_strength,
        "clip_strength": lora.clip_strength,
    }
    if lora.block_weights:
        entry["block_weights"] = lora.block_weights
    return entry

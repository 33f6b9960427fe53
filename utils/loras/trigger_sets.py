"""The trigger words of a LoRA: where they are written, and which belong together.

A LoRA may have several sets of words, one for each outfit or style that it knows. The first source that
has any counts: sidecars, then what the file's header says, and last the most frequent training tags.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..weights.safetensors_header import read_safetensors_header
from ..weights.shelf import READABLE
from .sidecars import Sidecar, read_sidecars

FREQUENT_TAGS = 10
_TAG = re.compile(r"<(?:lora|lyco):[^<>]*>", re.IGNORECASE)
_PLAIN_KEYS = ("trigger_words", "trigger_word", "activation_text", "activation text")


@dataclass(frozen=True, slots=True)
class TriggerSet:
    """Words that belong together.

    Attributes:
        name: What a person calls the set; the first word where nobody has named it.
        words: Words or phrases, in the order in which they are written.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Triggers:
    """The trigger words of one LoRA.

    Attributes:
        source: Where they are from, for a person; "" where there are none.
        sets: The sets, named ones first.
        problems: Sentences about what could not be read.
    """

    source: str = ""
    sets: tuple[TriggerSet, ...] = ()
    problems: tuple[str, ...] = ()


def read_triggers(lora: Path) -> Triggers:
    """Return the trigger words of a LoRA file.

    Raises:
        ModelFileError: The file is damaged, and no sidecar has words.
    """
    sidecars, problems = read_sidecars(lora)
    for sidecar in sidecars:
        sets = sets_of_sidecar(sidecar)
        if sets:
            return Triggers(sidecar.file, sets, tuple(problems))
    if lora.suffix.lower() not in READABLE:
        return Triggers(problems=tuple(problems))
    source, sets = header_triggers(read_safetensors_header(lora).metadata)
    return Triggers(source, sets, tuple(problems))


def header_triggers(metadata: Mapping[str, str]) -> tuple[str, tuple[TriggerSet, ...]]:
    """Return where in a header the trigger words are, and the words; ("", ()) where there are none."""
    for source, read in _HEADER_SOURCES:
        sets = read(metadata)
        if sets:
            return source, sets
    return "", ()


def choose_sets(sets: tuple[TriggerSet, ...], wanted: Iterable[str]) -> tuple[TriggerSet, ...]:
    """Return the sets of these names or numbers; all when none is wanted, the first when none fits.

    Args:
        sets: Of one LoRA.
        wanted: Names in any case, or numbers from 1.
    """
    asked = {word.strip().lower() for word in wanted} - {""}
    if not asked:
        return sets
    chosen = tuple(
        each
        for number, each in enumerate(sets, start=1)
        if each.name.lower() in asked or str(number) in asked
    )
    return chosen or sets[:1]


def split_words(text: str) -> tuple[str, ...]:
    """Return the words and phrases of a text with commas or line ends between them.

    Authors often write a LoRA's tag among its words; in a prompt it would undo the strength of the stack.
    """
    words = _TAG.sub(",", text).replace("\n", ",")
    parts = (" ".join(part.split()) for part in words.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def sets_of_sidecar(sidecar: Sidecar) -> tuple[TriggerSet, ...]:
    """Return the sets that a sidecar has."""
    return _SIDECAR_READERS[sidecar.ending](sidecar.content)


def _of_notes(content: dict[str, Any]) -> tuple[TriggerSet, ...]:
    named = content.get("trigger_sets")
    if isinstance(named, dict):
        sets = [TriggerSet(str(name), _words(words)) for name, words in named.items()]
        if any(each.words for each in sets):
            return tuple(each for each in sets if each.words)
    return _plain(content)


def _of_civitai(content: dict[str, Any]) -> tuple[TriggerSet, ...]:
    return _unnamed(_texts(content.get("trainedWords")))


def _of_lora_manager(content: dict[str, Any]) -> tuple[TriggerSet, ...]:
    civitai = content.get("civitai")
    return _of_civitai(civitai) if isinstance(civitai, dict) else ()


def _of_rgthree(content: dict[str, Any]) -> tuple[TriggerSet, ...]:
    words = content.get("trainedWords")
    listed = words if isinstance(words, list) else []
    return _unnamed(_texts([w.get("word") if isinstance(w, dict) else w for w in listed]))


def _of_stability_matrix(content: dict[str, Any]) -> tuple[TriggerSet, ...]:
    return _unnamed(_texts(content.get("TrainedWords")))


def _of_model_spec(content: Mapping[str, Any]) -> tuple[TriggerSet, ...]:
    return _unnamed(_texts(content.get("modelspec.trigger_phrase")))


def _plain(content: Mapping[str, Any]) -> tuple[TriggerSet, ...]:
    for key in _PLAIN_KEYS:
        sets = _unnamed(_texts(_json_or_text(content.get(key))))
        if sets:
            return sets
    return ()


def _frequent(metadata: Mapping[str, str]) -> tuple[TriggerSet, ...]:
    datasets = _json_or_text(metadata.get("ss_tag_frequency"))
    counts: Counter[str] = Counter()
    for tag, count in _tag_counts(datasets):
        counts[tag] += count
    # Of equally frequent tags the first in the alphabet, so that the choice is the same everywhere.
    ranked = sorted(counts, key=lambda tag: (-counts[tag], tag))[:FREQUENT_TAGS]
    return (TriggerSet("training tags", tuple(ranked)),) if ranked else ()


def _tag_counts(datasets: Any) -> Iterator[tuple[str, int]]:
    for tags in datasets.values() if isinstance(datasets, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and tag.strip():
                yield tag.strip(), count


def _unnamed(texts: Iterable[str]) -> tuple[TriggerSet, ...]:
    found = (split_words(text) for text in texts)
    return tuple(TriggerSet(words[0], words) for words in found if words)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for text in _texts(value) for word in split_words(text)))


def _texts(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, str)]


def _json_or_text(value: Any) -> Any:
    """Return what a header's text says: some tools write JSON into it, others the words."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value  # a text that begins with a bracket
    return value


_SIDECAR_READERS: dict[str, Callable[[dict[str, Any]], tuple[TriggerSet, ...]]] = {
    ".json": _of_notes,
    ".civitai.json": _of_civitai,
    ".civitai.info": _of_civitai,
    ".metadata.json": _of_lora_manager,
    ".cm-info.json": _of_stability_matrix,
    ".swarm.json": _of_model_spec,
    ".rgthree-info.json": _of_rgthree,
}
_HEADER_SOURCES: tuple[tuple[str, Callable[[Mapping[str, str]], tuple[TriggerSet, ...]]], ...] = (
    ("modelspec.trigger_phrase", _of_model_spec),
    ("ss_tag_frequency", _frequent),
    ("header", _plain),
)

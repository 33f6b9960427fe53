"""The text that AUTOMATIC1111, Forge and many after them write: prompt, negative prompt, settings."""

from __future__ import annotations

import re
from typing import Any

from .found_prompt import FoundPrompt

_NEGATIVE = "Negative prompt:"
_SETTINGS = re.compile(r"^Steps:\s*\d+", re.MULTILINE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_KEYS = {
    "seed": "seed",
    "steps": "steps",
    "cfg scale": "cfg",
    "sampler": "sampler_name",
    "schedule type": "scheduler",
    "denoising strength": "denoise",
    "clip skip": "clip_skip",
    "model": "model",
    "model hash": "model_hash",
    "vae": "vae",
}
_WHOLE = ("seed", "steps", "clip_skip")
_FRACTIONS = ("cfg", "denoise")


def looks_like_a1111(text: str) -> bool:
    """Tell whether a text has the form of these programs."""
    return _SETTINGS.search(text) is not None or f"\n{_NEGATIVE}" in text


def parse_a1111(text: str) -> FoundPrompt:
    """Take such a text apart. Without settings or negative prompt it is a prompt as a whole."""
    text = text.replace("\r\n", "\n")
    matches = list(_SETTINGS.finditer(text))
    # A prompt may have such a line itself; the settings are the last.
    end = matches[-1].start() if matches else len(text)
    values = _pairs(text[end:].strip())
    prompts = f"\n{text[:end]}"
    positive, _, negative = prompts.partition(f"\n{_NEGATIVE}")
    size = _SIZE.fullmatch(values.get("size", ""))
    width, height = (int(size.group(1)), int(size.group(2))) if size else (0, 0)
    return FoundPrompt(
        positive.strip(), negative.strip(), (), _settings(values), width, height, "A1111 parameters"
    )


def _pairs(text: str) -> dict[str, str]:
    """Return the settings by their names in lower case. Values in quotes may have commas."""
    pairs = {}
    place = 0
    while place < len(text):
        name, colon, rest = text[place:].partition(":")
        if not colon:
            break
        start = len(text) - len(rest.lstrip())
        quoted = _QUOTED.match(text, start)
        comma = text.find(",", quoted.end() if quoted else start)
        end = len(text) if comma < 0 else comma
        pairs[name.strip().lower()] = text[start:end].strip().strip('"')
        place = end + 1
    return pairs


def _settings(values: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for written, name in _KEYS.items():
        value = values.get(written, "")
        if name in _WHOLE:
            if re.fullmatch(r"-?\d{1,20}", value):
                found[name] = int(value)
        elif name in _FRACTIONS:
            if re.fullmatch(r"\d{1,6}(\.\d{1,12})?", value):
                found[name] = float(value)
        elif value:
            found[name] = value
    return found

"""A picture's file → the prompt it was made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from .a1111 import looks_like_a1111, parse_a1111
from .comfy_graph import ComfyGraph
from .found_prompt import FoundPrompt
from .graph_settings import loras_at, settings_at, size_at
from .graph_texts import text_at
from .page_graph import api_prompt_of
from .picture_texts import PictureTexts, read_texts


def prompt_of_picture(path: Path) -> tuple[PictureTexts, FoundPrompt | None]:
    """Return a picture's texts and the prompt in them; None when there is no prompt.

    Raises:
        InputError: The file is no picture, or damaged.
    """
    texts = read_texts(path)
    return texts, next(filter(None, _candidates(texts)), None)


def prompt_of_texts(texts: PictureTexts) -> FoundPrompt | None:
    """Return the prompt in a picture's texts; None when there is none."""
    return next(filter(None, _candidates(texts)), None)


def _candidates(texts: PictureTexts) -> Iterator[FoundPrompt | None]:
    """Yield what each text gives, those that tell most reliably first."""
    named = texts.named
    yield _from_graph(named.get("prompt", ""), "ComfyUI prompt")
    yield _from_graph(named.get("workflow", ""), "ComfyUI workflow")
    if named.get("parameters", "").strip():
        yield parse_a1111(named["parameters"])
    for text in texts.others:
        yield _from_graph(text, "ComfyUI graph")
        if looks_like_a1111(text):
            yield parse_a1111(text)
    # A text in no form that is known: by the order in which they are kept, the likeliest is first.
    for text in texts.others:
        if not text.lstrip().startswith(("{", "[", "<")):
            yield FoundPrompt(text.strip(), source="text of the picture")


def _from_graph(text: str, source: str) -> FoundPrompt | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        # Some nodes write NaN, which is no JSON and which Python reads.
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_page = isinstance(loaded, dict) and isinstance(loaded.get("nodes"), list)
    graph = ComfyGraph(api_prompt_of(loaded) if is_page else loaded)
    sampler = graph.sampler()
    if sampler is None:
        return None
    positive = text_at(graph, sampler, "positive")
    negative = text_at(graph, sampler, "negative")
    if not positive and not negative:
        return None
    return FoundPrompt(
        positive,
        negative,
        loras_at(graph, sampler),
        settings_at(graph, sampler),
        *size_at(graph, sampler),
        source,
    )

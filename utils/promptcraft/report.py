"""What is said about how a prompt came about: as JSON for programs, as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import InputError
from .crafting import Crafted, Pick


def as_data(crafted: Crafted, wildcards_path: str) -> dict[str, Any]:
    """Return everything about a prompt in a form that JSON has."""
    return {
        "seed": crafted.seed,
        "wildcards_path": wildcards_path,
        "picks": [_pick(pick) for pick in crafted.picks],
        "paths": [pick.item.address for pick in crafted.picks],
        "tags": sorted(crafted.tags),
        "expansions": list(crafted.expansions),
        "loras": [_lora(lora) for lora in crafted.linked.loras],
        "embeddings": [
            {"name": each.name, "weight": each.weight} for each in crafted.linked.embeddings
        ],
        "trigger_words": list(crafted.linked.triggers),
        "payloads": list(crafted.payloads),
        "warnings": [str(warning) for warning in crafted.warnings],
        "settings": asdict(crafted.settings),
    }


def as_json(crafted: Crafted, wildcards_path: str) -> str:
    """Return the same as text."""
    return json.dumps(as_data(crafted, wildcards_path), ensure_ascii=False, indent=2)


def shown(crafted: Crafted) -> str:
    """Return what a node shows: the prompt, and what was noticed."""
    if not crafted.warnings:
        return crafted.prompt
    return "\n".join([crafted.prompt, "", *_listed("Warnings", map(str, crafted.warnings))])


def formatted(text: str, *, paths: bool = True, tags: bool = True, loras: bool = True) -> str:
    """Return what `as_json` gives as lines for a person.

    Raises:
        InputError: It is something else.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _not_ours(str(error)) from error
    if not isinstance(data, dict) or not isinstance(data.get("picks"), list):
        raise _not_ours("it has no picks")
    try:
        return "\n".join(_lines(data, paths=paths, tags=tags, loras=loras))
    except (AttributeError, KeyError, TypeError) as error:
        raise _not_ours(f"it has not the form that was expected: {error}") from error


def _lines(data: Mapping[str, Any], *, paths: bool, tags: bool, loras: bool) -> Iterable[str]:
    yield f"Seed: {data.get('seed')}"
    yield f"Folder: {data.get('wildcards_path') or 'all folders for wildcards'}"
    yield "Picks:" if data["picks"] else "Picks: none"
    for pick in data["picks"]:
        where = f"{pick['path']}: " if paths else ""
        ignored = f" (ignored: {pick['relaxed']})" if pick.get("relaxed") else ""
        yield f"  {where}{pick['text']}{ignored}"
    yield from _listed("Expansions", data.get("expansions", []))
    if tags:
        yield f"Tags: {', '.join(sorted(data.get('tags', []))) or 'none'}"
    if loras:
        written = [f"{each['name']} ({each['model_weight']:g}, {each['clip_weight']:g})"
                   for each in data.get("loras", [])]  # fmt: skip
        yield from _listed("LoRAs (model, CLIP)", written)
        embeddings = [f"{each['name']} ({each['weight']:g})" for each in data.get("embeddings", [])]
        yield from _listed("Embeddings", embeddings)
        yield from _listed("Trigger words", data.get("trigger_words", []))
    yield from _listed("Payloads", data.get("payloads", []))
    yield from _listed("Warnings", data.get("warnings", []))
    for name, on in data.get("settings", {}).items():
        yield f"{name.replace('_', ' ')}: {'on' if on else 'off'}"


def _listed(title: str, entries: Iterable[str]) -> Iterable[str]:
    entries = list(entries)
    if entries:
        yield f"{title}:"
        yield from (f"  {entry}" for entry in entries)


def _pick(pick: Pick) -> dict[str, Any]:
    item = pick.item
    return {
        "category": item.category,
        "path": item.address,
        "id": item.id,
        "text": pick.text,
        "modifier": pick.modifier,
        "candidates": pick.candidates,
        "relaxed": pick.relaxed,
        "source": f"{item.file}:{item.line}",
    }


def _lora(lora: Any) -> dict[str, Any]:
    return {
        "name": lora.name,
        "model_weight": lora.model_weight,
        "clip_weight": lora.clip_weight,
        "priority": lora.priority,
    }


def _not_ours(why: str) -> InputError:
    return InputError(
        f"This is no debug output of Luna PromptCraft: {why}.",
        "Connect the output 'debug' of that node.",
    )

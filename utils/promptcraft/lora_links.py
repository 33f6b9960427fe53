"""LoRA links: LoRAs, embeddings and trigger words that belong to picks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..loras.names import resolve
from ..loras.stack import LoraEntry, to_tuples
from ..prompts.embeddings import EmbeddingUse, reference
from ..wildcards.errors import Remark
from ..wildcards.names import normal
from .items import Item
from .matching import Context, Place, rules_of
from .records import Record


@dataclass(frozen=True, slots=True)
class LinkedLora:
    """A LoRA that a pick asks for."""

    name: str
    model_weight: float
    clip_weight: float
    triggers: tuple[str, ...]
    priority: float


@dataclass(frozen=True, slots=True)
class LinkedEmbedding:
    """An embedding that a pick asks for.

    Attributes:
        format: How it is written, with `{name}` and `{weight}` in it; "": as ComfyUI reads it.
    """

    name: str
    weight: float
    format: str = ""

    def written(self) -> str:
        """Return it as it stands in a prompt."""
        if not self.format:
            return reference(EmbeddingUse(self.name, self.weight))
        # Not str.format, with which a file could reach into objects.
        return self.format.replace("{name}", self.name).replace("{weight}", f"{self.weight:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One rule: what a pick from a place, or with a tag, brings with it."""

    source: Place
    loras: tuple[LinkedLora, ...]
    embeddings: tuple[LinkedEmbedding, ...]


@dataclass(frozen=True, slots=True)
class Linked:
    """What all picks together bring: each LoRA and embedding once, LoRAs of high priority first."""

    loras: tuple[LinkedLora, ...] = ()
    embeddings: tuple[LinkedEmbedding, ...] = ()

    @property
    def triggers(self) -> tuple[str, ...]:
        """Each trigger word once, in any case."""
        words = [word for lora in self.loras for word in lora.triggers]
        return tuple({normal(word): word for word in reversed(words)}.values())[::-1]


def read_links(root: Record, context: Context) -> Iterator[Link]:
    """Yield the rules of a file: path or tag → loras, embeddings."""
    for source, rule in rules_of(root, "links").items():
        loras = tuple(_loras(rule.fields.get("loras"), context))
        embeddings = tuple(_embeddings(rule.fields.get("embeddings"), context))
        if not loras and not embeddings:
            context.source.remark(f"'{source}' links neither LoRAs nor embeddings.", rule)
        yield Link(context.place(source), loras, embeddings)


def linked_to(items: Sequence[Item], links: Iterable[Link]) -> Linked:
    """Return what picks bring with them."""
    loras: dict[str, LinkedLora] = {}
    embeddings: dict[str, LinkedEmbedding] = {}
    for link in links:
        if not any(link.source.holds_or_tags(item) for item in items):
            continue
        for lora in link.loras:
            key = normal(lora.name)
            if key not in loras or loras[key].priority < lora.priority:
                loras[key] = lora
        for embedding in link.embeddings:
            embeddings.setdefault(normal(embedding.name), embedding)
    ordered = sorted(loras.values(), key=lambda lora: -lora.priority)
    return Linked(tuple(ordered), tuple(embeddings.values()))


def as_stack(
    loras: Iterable[LinkedLora], known: Sequence[str]
) -> tuple[list[tuple[str, float, float]], list[Remark]]:
    """Return a LORA_STACK, and which LoRAs are not there; those stay as they are written.

    Args:
        loras: In their order.
        known: The LoRA files.
    """
    entries, remarks = [], []
    for lora in loras:
        name = lora.name
        try:
            name = resolve(name, known)
        except InputError as error:
            remarks.append(Remark(str(error)))
        entries.append(LoraEntry(name, lora.model_weight, lora.clip_weight))
    return to_tuples(entries), remarks


def _loras(record: Record | None, context: Context) -> Iterator[LinkedLora]:
    for part, name in _named(record, context):
        fields = part.fields
        model = _number(fields, ("model_weight", "weight"), 1.0, context)
        clip = _number(fields, ("clip_weight",), model, context)
        trigger = fields.get("trigger")
        words = [each.text for each in trigger.parts if each.text] if trigger is not None else []
        priority = _number(fields, ("priority",), 0.0, context)
        yield LinkedLora(name, model, clip, tuple(words), priority)


def _embeddings(record: Record | None, context: Context) -> Iterator[LinkedEmbedding]:
    for part, name in _named(record, context):
        written = part.fields.get("format")
        weight = _number(part.fields, ("weight",), 1.0, context)
        yield LinkedEmbedding(name, weight, written.text if written is not None else "")


def _named(record: Record | None, context: Context) -> Iterator[tuple[Record, str]]:
    if record is None:
        return
    for part in record.value if isinstance(record.value, list) else [record]:
        name = part.fields["name"].text if "name" in part.fields else part.text
        if name:
            yield part, name
        else:
            context.source.remark("this has no name; it is left out.", part)


def _number(
    fields: dict[str, Record], keys: Sequence[str], otherwise: float, context: Context
) -> float:
    for key in keys:
        if key in fields:
            return context.source.number(fields[key], key, otherwise)
    return otherwise

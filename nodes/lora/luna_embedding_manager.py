"""Luna Embedding Manager and its random sister: embeddings as text for a prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.prompts.embedding_slots import fixed_uses, random_uses
from ...utils.prompts.embeddings import append, draw_weights, references
from ..schema import node_schema
from ..seed_inputs import seed_input
from .lora_files import NO_FILE, embedding_names
from .slots import slot_inputs


class LunaEmbeddingManager(io.ComfyNode):
    """Embeddings with weights, written as ComfyUI reads them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaEmbeddingManager",
            display_name="Luna Embedding Manager",
            category="Luna/LoRA",
            description="Writes chosen embeddings into a prompt, with weights, in the form that ComfyUI reads: "
            "`embedding:name`, or `(embedding:name:1.20)`.",
            search_aliases=[
                "textual inversion",
                "embedding",
                "negative embedding",
                "embedding picker",
            ],
            inputs=[*slot_inputs(_fixed_slot), _text()],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, text: str | None = None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(append(text or "", references(fixed_uses(values))))


class LunaEmbeddingManagerRandom(io.ComfyNode):
    """Embeddings with weights that a seed draws."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaEmbeddingManagerRandom",
            display_name="Luna Embedding Manager (Random)",
            category="Luna/LoRA",
            description="Writes chosen embeddings into a prompt, with weights that a seed draws, each from its "
            "own range. The same seed always gives the same, on every machine.",
            search_aliases=["random embedding", "textual inversion", "embedding", "random weight"],
            inputs=[seed_input(), *slot_inputs(_random_slot), _text()],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, seed: int, text: str | None = None, **values: Any) -> io.NodeOutput:
        drawn = draw_weights(random_uses(values), seed)
        return io.NodeOutput(append(text or "", references(drawn)))


def _text() -> io.Input:
    return io.String.Input(
        "text",
        optional=True,
        force_input=True,
        tooltip="A prompt, which the embeddings are added to.",
    )


def _output() -> io.Output:
    return io.String.Output(
        "embedding_string",
        tooltip="The prompt with the embeddings at its end, commas between them.",
    )


def _name(number: int) -> list[io.Input]:
    return [
        io.Boolean.Input(
            f"embedding_{number}_enabled", default=True, tooltip="Off: this slot is left out."
        ),
        io.Combo.Input(
            f"embedding_name_{number}",
            options=[NO_FILE, *embedding_names()],
            default=NO_FILE,
            tooltip="A file of models/embeddings; None leaves the slot out.",
        ),
    ]


def _fixed_slot(number: int) -> list[io.Input]:
    return [
        *_name(number),
        _weight(f"weight_{number}", 1.0, "Its weight in the prompt; 1 is plain."),
    ]


def _random_slot(number: int) -> list[io.Input]:
    return [
        *_name(number),
        _weight(f"min_weight_{number}", 0.5, "Lowest weight."),
        _weight(f"max_weight_{number}", 1.5, "Highest weight."),
        io.Float.Input(
            f"precision_{number}",
            default=0.1,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Distance between the weights that can be drawn.",
        ),
    ]


def _weight(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, default=default, min=-10.0, max=10.0, step=0.01, round=0.001, tooltip=tooltip
    )


NODES = [LunaEmbeddingManager, LunaEmbeddingManagerRandom]

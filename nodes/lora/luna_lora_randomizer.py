"""Luna LoRA Randomizer: draws LoRAs from a pool."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.loras.pool import (
    PoolEntry,
    as_tags,
    draw_from_pool,
    filter_by_tags,
    parse_pool,
    resolve_pool,
)
from ...utils.loras.stack import to_tuples
from ...utils.seeded_draw import Steps
from .. import io_types
from ..schema import node_schema
from ..seed_inputs import seed_input
from .lora_files import (
    NO_FILE,
    lora_names,
    pool_names,
    pool_path,
    register_pools,
    stamp_of,
    text_of,
)

register_pools()
SLOTS = 10


class LunaLoRARandomizer(io.ComfyNode):
    """Some LoRAs of many, with weights, as a seed decides."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLoRARandomizer",
            display_name="Luna LoRA Randomizer",
            category="Luna/LoRA",
            description="Draws LoRAs without repeats from a pool: the slots of the node, and a YAML file "
            "whose entries may have their own weights, chances and tags. Gives them as text for a prompt "
            "and as a LORA_STACK.",
            search_aliases=["random lora", "lora pool", "lora roulette", "lora cycler"],
            inputs=[
                io.Int.Input(
                    "lora_count",
                    default=2,
                    min=0,
                    max=50,
                    tooltip="How many LoRAs are drawn at most.",
                ),
                seed_input(),
                _weight(
                    "weight_min", 0.5, "Lowest weight, where the pool file has none for a LoRA."
                ),
                _weight(
                    "weight_max", 1.0, "Highest weight, where the pool file has none for a LoRA."
                ),
                io.Float.Input(
                    "weight_step",
                    default=0.1,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Distance between the weights that can be drawn.",
                ),
                io.Combo.Input(
                    "pool_file",
                    options=[NO_FILE, *pool_names()],
                    default=NO_FILE,
                    optional=True,
                    tooltip="A YAML file of models/lora_pools.",
                ),
                io.String.Input(
                    "tags",
                    default="",
                    optional=True,
                    tooltip="Only LoRAs of the file with one of these tags, with commas between them; a minus "
                    "before a tag leaves its LoRAs out. Empty: all. Slots have no tags and always count.",
                ),
                *(_slot(number) for number in range(1, SLOTS + 1)),
            ],
            outputs=[
                io.String.Output(
                    "lora_string", tooltip="<lora:name:weight> for each, for a prompt."
                ),
                io_types.LoraStack.Output(
                    "lora_stack",
                    tooltip="The same as a list of (file, model strength, clip strength).",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, pool_file: str = NO_FILE, **values: Any) -> list[int]:
        return [] if pool_file == NO_FILE else stamp_of(pool_path(pool_file))

    @classmethod
    def execute(
        cls,
        lora_count: int,
        seed: int,
        weight_min: float,
        weight_max: float,
        weight_step: float,
        pool_file: str = NO_FILE,
        tags: str = "",
        **slots: str,
    ) -> io.NodeOutput:
        known = lora_names()
        listed = [PoolEntry(name) for name in slots.values() if name != NO_FILE]
        if pool_file != NO_FILE:
            entries = parse_pool(text_of(pool_path(pool_file)), pool_file)
            listed += filter_by_tags(entries, tags)
        weights = Steps(weight_min, weight_max, weight_step)
        drawn = draw_from_pool(resolve_pool(listed, known), lora_count, weights, seed)
        return io.NodeOutput(as_tags(drawn, known), to_tuples(drawn))


def _weight(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=-2.0, max=2.0, step=0.05, tooltip=tooltip)


def _slot(number: int) -> io.Input:
    return io.Combo.Input(
        f"pool_{number}",
        options=[NO_FILE, *lora_names()],
        default=NO_FILE,
        optional=True,
        tooltip="A LoRA of the pool, beside those of the file.",
    )


NODES = [LunaLoRARandomizer]

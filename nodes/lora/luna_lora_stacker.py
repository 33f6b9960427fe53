"""Luna LoRA Stacker and its random sister: LoRAs and strengths as a LORA_STACK."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...utils.loras.random_stack import draw_stack
from ...utils.loras.stack_slots import fixed_entries, random_slots, stacked
from .. import io_types
from ..schema import node_schema
from ..seed_inputs import seed_input
from .lora_files import NO_FILE, lora_names
from .slots import SLOTS, slot_inputs

SAME_AS_MODEL, OWN_RANGE = "as model", "own range"


class LunaLoRAStacker(io.ComfyNode):
    """LoRAs with strengths, as many as are wanted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLoRAStacker",
            display_name="Luna LoRA Stacker",
            category="Luna/LoRA",
            description="A list of LoRAs with a strength for the model and one for the text encoders. "
            "It loads nothing: what takes a LORA_STACK applies it. Stackers can be chained, and take "
            "the stacks of other packs.",
            search_aliases=["lora stack", "load lora", "multiple loras", "power lora loader"],
            inputs=[*_head(), *slot_inputs(_fixed_slot), _incoming("lora_stack")],
            outputs=[_stack_output()],
        )

    @classmethod
    def execute(
        cls, enabled: bool, show_previews: bool, lora_stack: Any = None, **values: Any
    ) -> io.NodeOutput:
        if not enabled:
            return io.NodeOutput([] if lora_stack is None else lora_stack)
        return io.NodeOutput(stacked(lora_stack, fixed_entries(values)))


class LunaLoRAStackerRandom(io.ComfyNode):
    """LoRAs with strengths that a seed draws."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLoRAStackerRandom",
            display_name="Luna LoRA Stacker (Random)",
            category="Luna/LoRA",
            description="A list of LoRAs whose strengths a seed draws, each from its own range; a LoRA may "
            "also have a chance to be left out, and only some of them may be picked. The same seed "
            "always gives the same, on every machine.",
            search_aliases=["random lora", "lora stack", "lora roulette", "random strength"],
            inputs=[
                *_head(),
                seed_input(),
                io.Int.Input(
                    "pick_count",
                    default=0,
                    min=0,
                    max=SLOTS,
                    tooltip="How many of the LoRAs that take part are kept, drawn by the seed. 0: all.",
                ),
                *slot_inputs(_random_slot),
                _incoming("optional_lora_stack"),
            ],
            outputs=[_stack_output()],
        )

    @classmethod
    def execute(
        cls,
        enabled: bool,
        show_previews: bool,
        seed: int,
        pick_count: int,
        optional_lora_stack: Any = None,
        **values: Any,
    ) -> io.NodeOutput:
        if not enabled:
            return io.NodeOutput([] if optional_lora_stack is None else optional_lora_stack)
        drawn = draw_stack(random_slots(values), pick_count, seed)
        return io.NodeOutput(stacked(optional_lora_stack, drawn))


def _head() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "enabled",
            default=True,
            tooltip="Off: what comes in goes out unchanged, and no LoRA of this node is added.",
        ),
        io.Boolean.Input(
            "show_previews",
            default=True,
            tooltip="Shows pictures and trigger words of the chosen LoRAs on the node.",
        ),
    ]


def _incoming(name: str) -> io.Input:
    return io_types.LoraStack.Input(
        name, optional=True, tooltip="A stack that comes first; it is copied, never changed."
    )


def _stack_output() -> io.Output:
    return io_types.LoraStack.Output(
        "lora_stack", tooltip="A list of (file, model strength, clip strength)."
    )


def _lora_combo(name: str) -> io.Input:
    return io.Combo.Input(
        name,
        options=[NO_FILE, *lora_names()],
        default=NO_FILE,
        tooltip="A file of models/loras; None leaves the slot out.",
    )


def _fixed_slot(number: int) -> list[io.Input]:
    return [
        _lora_combo(f"lora_{number}"),
        _strength(f"model_strength_{number}", 1.0, "How strongly it works on the diffusion model."),
        _strength(f"clip_strength_{number}", 1.0, "How strongly it works on the text encoders."),
        _switch(f"enabled_{number}"),
    ]


def _random_slot(number: int) -> list[io.Input]:
    return [
        _switch(f"lora_{number}_enabled"),
        _lora_combo(f"lora_name_{number}"),
        *_range(number, "model", "the diffusion model"),
        io.DynamicCombo.Input(
            f"clip_{number}",
            options=[
                io.DynamicCombo.Option(SAME_AS_MODEL, []),
                io.DynamicCombo.Option(OWN_RANGE, _range(number, "clip", "the text encoders")),
            ],
            tooltip="Strength for the text encoders: that of the model, or one from a range of its own.",
        ),
        io.Float.Input(
            f"chance_{number}",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Chance that this LoRA takes part. 1: always.",
        ),
    ]


def _range(number: int, part: str, place: str) -> list[io.Input]:
    return [
        _strength(f"min_{part}_strength_{number}", 0.0, f"Lowest strength for {place}."),
        _strength(f"max_{part}_strength_{number}", 1.0, f"Highest strength for {place}."),
        io.Float.Input(
            f"precision_{part}_{number}",
            default=0.1,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Distance between the strengths that can be drawn.",
        ),
    ]


def _strength(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, default=default, min=-10.0, max=10.0, step=0.01, round=0.001, tooltip=tooltip
    )


def _switch(name: str) -> io.Input:
    return io.Boolean.Input(name, default=True, tooltip="Off: this slot is left out.")


NODES = [LunaLoRAStacker, LunaLoRAStackerRandom]

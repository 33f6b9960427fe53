"""Luna LoRA Trigger Injector: the words that LoRAs want to hear, in the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...utils.loras.names import resolve
from ...utils.loras.stack import read_stack, to_tuples
from ...utils.loras.trigger_injection import Injection, InjectionMode, inject, words_to_add
from ...utils.loras.trigger_report import triggers_of_stack
from .. import io_types
from ..schema import node_schema
from .lora_files import lora_names, lora_path


class LunaLoRATriggerInjector(io.ComfyNode):
    """Finds trigger words of LoRAs and adds them to a prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaLoRATriggerInjector",
            display_name="Luna LoRA Trigger Injector",
            category="Luna/LoRA",
            description="Adds the trigger words of a stack's LoRAs to a prompt, without those that it has "
            "already. They come from files beside a LoRA as Civitai, Lora-Manager, rgthree and others "
            "write them, or from its header.",
            search_aliases=["trigger words", "trained words", "activation text", "lora keywords"],
            inputs=[
                io.Combo.Input(
                    "injection_mode",
                    options=[mode.value for mode in InjectionMode],
                    default=InjectionMode.APPEND.value,
                    tooltip="Before the prompt, behind it, or none: then the words are only given out.",
                ),
                io.Int.Input(
                    "max_triggers_per_lora",
                    default=5,
                    min=1,
                    max=50,
                    tooltip="How many words each LoRA adds at most.",
                ),
                io.String.Input(
                    "separator", default=", ", tooltip="Between words, and before the prompt."
                ),
                io.Boolean.Input(
                    "deduplicate",
                    default=True,
                    tooltip="Leave out words that the prompt or an earlier LoRA has, in any case.",
                ),
                io.String.Input(
                    "prompt", default="", optional=True, multiline=True, tooltip="The prompt."
                ),
                io_types.LoraStack.Input(
                    "lora_stack", optional=True, tooltip="The LoRAs whose words are wanted."
                ),
                io.String.Input(
                    "trigger_sets",
                    default="",
                    optional=True,
                    tooltip="Where a LoRA has several sets of words: names or numbers of those to use, commas "
                    "between them. Empty: all. The report lists the sets.",
                ),
            ],
            outputs=[
                io.String.Output("prompt_with_triggers", tooltip="The prompt with the words."),
                io.String.Output("triggers", tooltip="The words alone."),
                io_types.LoraStack.Output("lora_stack", tooltip="The LoRAs that came in."),
                io.String.Output("prompt_passthrough", tooltip="The prompt as it came in."),
                io.String.Output(
                    "report", tooltip="Where each LoRA's words are from, and its sets."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        injection_mode: str,
        max_triggers_per_lora: int,
        separator: str,
        deduplicate: bool,
        prompt: str = "",
        lora_stack: Any = None,
        trigger_sets: str = "",
    ) -> io.NodeOutput:
        entries = read_stack(lora_stack)
        how = Injection(
            InjectionMode(injection_mode), max_triggers_per_lora, separator, deduplicate
        )
        sets, report = triggers_of_stack(entries, trigger_sets, _path_of)
        words = words_to_add(prompt, sets, how)
        injected = inject(prompt, words, how)
        return io.NodeOutput(injected, separator.join(words), to_tuples(entries), prompt, report)


def _path_of(name: str) -> Path:
    return lora_path(resolve(name, lora_names()))


NODES = [LunaLoRATriggerInjector]

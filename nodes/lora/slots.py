"""Inputs that come in slots: the first is always there, and each further one opens the next.

ComfyUI's growing inputs (`io.Autogrow`) have sockets only. Choices and numbers need widgets, so here each
slot is a DynamicCombo inside the one before it, which works in both renderers and without any script. What
is in a slot stays when a further one is opened.
"""

from __future__ import annotations

from collections.abc import Callable

from comfy_api.latest import io

from ..schema import need_dynamic_combo

need_dynamic_combo()
EMPTY, FILLED = "empty", "filled"
SLOTS = 10


def slot_inputs(inputs_of: Callable[[int], list[io.Input]], count: int = SLOTS) -> list[io.Input]:
    """Return the inputs of `count` slots.

    Args:
        inputs_of: Number of a slot → its inputs, whose ids have the number in them.
        count: How many slots can be opened.
    """
    return [*inputs_of(1), _further(2, count, inputs_of)]


def _further(number: int, count: int, inputs_of: Callable[[int], list[io.Input]]) -> io.Input:
    inside = inputs_of(number)
    if number < count:
        inside.append(_further(number + 1, count, inputs_of))
    return io.DynamicCombo.Input(
        f"slot_{number}",
        options=[io.DynamicCombo.Option(EMPTY, []), io.DynamicCombo.Option(FILLED, inside)],
        tooltip="filled opens a further slot. empty closes it, and all slots after it.",
    )

"""What ComfyUI hands over → what expressions compute with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io

from ...utils.errors import InputError
from ...utils.expressions.errors import BadValueError
from ...utils.expressions.values import INPUTS, Value, checked, sizes_of


def value_inputs() -> list[io.Input]:
    """Return the inputs for values, each of any type."""
    return [
        io.AnyType.Input(
            name,
            optional=True,
            tooltip=f"What '{name}' stands for: a number, a text, a truth value, or an image, mask or latent with "
            "width, height, batch, channels, ratio and shape.",
        )
        for name in INPUTS
    ]


def values_of(inputs: Mapping[str, Any]) -> dict[str, Value]:
    """Return what is connected, by name.

    Raises:
        InputError: Something is nothing to compute with.
    """
    return {name: value_of(name, value) for name, value in inputs.items() if value is not None}


def value_of(name: str, value: Any) -> Value:
    """Return one value.

    Raises:
        InputError: It is nothing to compute with.
    """
    try:
        if isinstance(value, torch.Tensor):
            return sizes_of(value.shape, channels_first=False)
        if isinstance(value, Mapping) and isinstance(value.get("samples"), torch.Tensor):
            return sizes_of(value["samples"].shape, channels_first=True)
        return checked(tuple(value) if isinstance(value, list) else value)
    except BadValueError as error:
        raise InputError(
            f"The input '{name}' cannot be used: {error.why}.",
            "Connect a number, a text, a truth value, an image, a mask or a latent.",
        ) from error

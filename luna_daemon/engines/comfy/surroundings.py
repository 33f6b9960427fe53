"""What a call's process has around it and the worker has not: settings of torch, random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...errors import BadRequestError
from ...protocol.work import CallModel, Needed
from ...random_numbers import States, are_equal, current_states, set_states
from ...torch_settings import Settings, current_settings, under


class Surroundings:
    """Those of the calls of one worker.

    Args:
        device: The worker's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._usual: Settings | None = None

    def unusual(self, work: CallModel) -> Settings:
        """Return those of a call's settings that are other ones than the worker's own."""
        if self._usual is None:
            self._usual = current_settings()
        usual = self._usual
        return {name: value for name, value in work.settings.items() if usual.get(name) != value}

    def run(
        self, work: CallModel, tensors: Sequence[torch.Tensor], call: Callable[[], Any]
    ) -> tuple[Any, States] | Needed:
        """Return what a call gives, and the states of the random numbers after it where it drew any.

        What draws some without the states of its caller is not done: they are asked for.

        Raises:
            BadRequestError: A setting or a state cannot be taken over.
        """
        try:
            settings = under(self.unusual(work))
            given = {name: tensors[index] for name, index in work.random.items()}
            set_states(given, self._device)
            before = current_states(self._device)
            with settings:
                result = call()
        except (IndexError, ValueError) as error:
            raise BadRequestError(
                f"What is around a call cannot be taken over: {error}."
            ) from error
        after = current_states(self._device)
        if are_equal(before, after):
            return result, {}
        return (result, after) if given else Needed(random=True)

"""While ComfyUI works: its interrupt flag is the caller's cancellation, its progress bar the caller's.

ComfyUI asks before every operation of a model whether it is to stop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.utils

from ...errors import CanceledError
from ..engine import RunControl

MOST_NOTES = 8
MOST_CHARACTERS = 400


@contextmanager
def watched(control: RunControl) -> Iterator[None]:
    """Connect ComfyUI with whoever asked for the work.

    Raises:
        CanceledError: The caller has given up.
    """
    management = comfy.model_management
    interrupted = management.InterruptProcessingException
    stock = management.throw_exception_if_processing_interrupted

    def check() -> None:
        try:
            control.check()
        except CanceledError as error:  # ComfyUI's own exception passes its `except Exception`
            raise interrupted from error

    def on_progress(done: float, total: float, *_: Any, **__: Any) -> None:
        check()
        control.progress(int(done), int(total))

    notes = _Notes(control)
    management.throw_exception_if_processing_interrupted = check
    comfy.utils.set_progress_bar_global_hook(on_progress)
    logging.getLogger().addHandler(notes)
    try:
        check()
        yield
    except interrupted as error:
        raise CanceledError("The request was cancelled.") from error
    finally:
        logging.getLogger().removeHandler(notes)
        comfy.utils.set_progress_bar_global_hook(None)
        management.throw_exception_if_processing_interrupted = stock


class _Notes(logging.Handler):
    """Tells the person at the screen what ComfyUI warns about, as its own console would."""

    def __init__(self, control: RunControl) -> None:
        super().__init__(logging.WARNING)
        self._control = control
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())[:MOST_CHARACTERS]
        if record.name.startswith("luna") or text in self._told or len(self._told) >= MOST_NOTES:
            return
        self._told.add(text)
        self._control.note(f"ComfyUI, in the daemon: {text}")

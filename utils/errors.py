"""The root of every error that we raise on purpose.

A message says what happened, with the values, and why; the hint says what to do next.
"""

from __future__ import annotations


class LunaError(Exception):
    """An error written for the person at the screen.

    Args:
        message: What happened and why, in full sentences.
        hint: What to do next; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(LunaError):
    """A value given by the user cannot work. Shown without a traceback."""


class ModelFileError(LunaError):
    """A model file is missing, damaged, or of another kind than its place asks for."""

"""Conversions that make no sense, with the reason; and those that somebody stopped."""

from __future__ import annotations

from enum import Enum

from ..errors import InputError, LunaError


class Reason(str, Enum):
    """Why a file is not converted. The value is what a status line says."""

    SAME_PRECISION = "it has that precision already"
    QUANTISED = "it is quantised already"
    NO_MODEL = "there is no diffusion model in it"
    LAYOUT = "its layout cannot be converted"
    FORMAT = "its file format cannot be converted"
    ABSENT = "this precision needs a package that is not installed"


class ConversionRefusedError(InputError):
    """A conversion that makes no sense, or cannot be exact.

    Attributes:
        reason: Why, for programs: with SAME_PRECISION and QUANTISED the source can be used as it is.
    """

    def __init__(self, reason: Reason, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class ConversionCancelledError(LunaError):
    """Whoever asked for the conversion stopped it. What was made so far is used by the next try."""

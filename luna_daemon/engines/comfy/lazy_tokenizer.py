"""Tokenizers that are made when they are first used: ComfyUI's clients send tokens, not texts.

Making those of SDXL takes longer than mapping its weights.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.sd


class LazyTokenizer:
    """Stands for a tokenizer of ComfyUI and becomes it with the first question."""

    def __init__(self, make: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._make = functools.partial(make, *args, **options)

    def __getattr__(self, name: str) -> Any:
        """Answer as the tokenizer does."""
        return getattr(self._made, name)

    @functools.cached_property
    def _made(self) -> Any:
        return self._make()


@contextmanager
def lazy_tokenizers() -> Iterator[None]:
    """Let text encoders that are loaded as long as this lasts have lazy tokenizers."""
    stock = comfy.sd.CLIP.__init__

    def init(self: Any, target: Any = None, *args: Any, **options: Any) -> None:
        if target is not None:
            target = copy.copy(target)
            target.tokenizer = functools.partial(LazyTokenizer, target.tokenizer)
        stock(self, target, *args, **options)

    comfy.sd.CLIP.__init__ = init
    try:
        yield
    finally:
        comfy.sd.CLIP.__init__ = stock

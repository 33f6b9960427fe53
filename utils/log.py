"""Loggers with fixed names.

ComfyUI imports this package under a file path, so `__name__` would be a path: every module asks for
`get_logger("<part>")` and gets `luna.<part>`.
"""

from __future__ import annotations

import logging
import threading

_said: set[tuple[str, str]] = set()
_said_lock = threading.Lock()


def get_logger(part: str) -> logging.Logger:
    """Return the logger `luna.<part>`."""
    return logging.getLogger(f"luna.{part}")


def log_once(logger: logging.Logger, level: int, key: str, message: str, *args: object) -> None:
    """Log `message` the first time that `key` is seen on `logger` in this process."""
    with _said_lock:
        if (logger.name, key) in _said:
            return
        _said.add((logger.name, key))
    logger.log(level, message, *args)

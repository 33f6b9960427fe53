"""How the daemon's log looks and where it goes: standard error and a file that is kept short.

Two forms: lines for people, and one JSON object per line for programs. A log that cannot be written
never stops the daemon; it says so once on standard error.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .request_trace import current_trace

MAX_FILE_BYTES = 5 * 2**20
OLD_FILES = 3
TEXT = "text"
JSON = "json"
# Loggers that write to the log: ours, and the event loop's, which tells of tasks that failed unseen.
_LOGGERS = {"luna": None, "asyncio": logging.WARNING}
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Names that clients chose are in the text: they must not make lines or colours of their own.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def set_up_logging(level: str, path: Path, form: str = TEXT) -> None:
    """Log to standard error, where there is one, and to a file (5 MB, three old ones)."""
    formatter = JsonFormatter() if form == JSON else TextFormatter()
    handlers: list[logging.Handler] = [LogFile(path)]
    if sys.stderr is not None:
        handlers.append(ErrorOutput(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.addFilter(add_request)
    for name, own_level in _LOGGERS.items():
        logger = logging.getLogger(name)
        logger.setLevel(own_level or level.upper())
        logger.propagate = False
        logger.handlers[:] = handlers


def add_request(record: logging.LogRecord) -> bool:
    """Note on a record which request it is about. A filter that lets everything pass."""
    trace = current_trace()
    for name, value in trace.fields().items() if trace else ():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True


class TextFormatter(logging.Formatter):
    """`time level logger: message [wf portraits session 3 request 17]`; further lines are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """Return the line, with the request at its end."""
        names = {"wf": "workflow", "session": "session", "request": "request"}
        found = {shown: getattr(record, name, None) for shown, name in names.items()}
        about = " ".join(f"{shown} {value}" for shown, value in found.items() if value is not None)
        return super().formatMessage(record) + (f" [{about}]" if about else "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text in which only the first line begins at the margin."""
        text = super().format(record).replace("\n", "\n    ")
        return _CONTROLS.sub(lambda match: ascii(match.group())[1:-1], text)


class JsonFormatter(logging.Formatter):
    """One object per line: time (UTC), level, logger, message, the record's extras, and exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD_FIELDS:
                line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


class ErrorOutput(logging.StreamHandler):
    """Standard error. What cannot be written there is lost: there is nowhere else to say so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's own name)
        """Go on."""


class LogFile(logging.handlers.RotatingFileHandler):
    """The daemon's log file. While it cannot be written, one notice goes to standard error."""

    def __init__(self, path: Path) -> None:
        self._error: OSError | None = None
        super().__init__(
            path,
            maxBytes=MAX_FILE_BYTES,
            backupCount=OLD_FILES,
            encoding="utf-8",
            errors="backslashreplace",
            delay=True,  # opened by the first line, where a full disk does no harm
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or say once that it cannot be written."""
        before, self._error = self._error, None
        super().emit(record)
        if self._error is not None and before is None:
            reason = self._error.strerror or type(self._error).__name__
            notice = f"luna-daemon: the log {self.baseFilename} cannot be written ({reason}).\n"
            # It may be on the same disk, closed, or there may be none.
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(notice)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's own name)
        """Lose the record. What is wrong with the record itself, and not with the file, is shown."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._error = error
        # The next record opens the file anew: what could not be written would be in the way of it.
        stream, self.stream = self.stream, None
        with suppress(OSError):
            if stream is not None:
                stream.close()


def _utc(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""What can go wrong between a client, the daemon and its workers.

```
LunaError
├── InputError
│   └── ConfigError                 a setting is unknown or cannot be used
└── DaemonError                     has a code that crosses the wire
    ├── RejectedError      REJECTED      queue full or no room; try again after `retry_after_s`
    ├── DeadlineError      DEADLINE      not finished in the time given
    ├── CanceledError      CANCELED      the caller gave up
    ├── NotFoundError      NOT_FOUND     no such model, workflow or file
    ├── OutOfMemoryError   OOM           the device has no room, after every smaller way was tried
    ├── WorkerDiedError    WORKER_DIED   the process that ran the request ended
    ├── IncompatibleError  INCOMPATIBLE  versions or settings of the two ends do not fit
    ├── AuthError          AUTH          wrong or missing token, or another user's process
    ├── BadRequestError    BAD_REQUEST   the request, or a file that it names, makes no sense
    │   └── ProtocolError                the bytes are not our protocol
    ├── DrainingError      DRAINING      the daemon is stopping
    ├── InternalError      INTERNAL      our fault
    └── ConnectionLostError   (never sent) the peer went away
        └── DaemonUnreachableError         nobody answers at the address
            └── DaemonHangsError           somebody takes the connection there and says nothing
```
A code is stable: clients of other versions rely on it.
"""

from __future__ import annotations

from typing import ClassVar

from ..utils.errors import InputError, LunaError


class ConfigError(InputError):
    """A setting is unknown or has a value that cannot be used."""


class DaemonError(LunaError):
    """An error with a wire code. `retryable`: the same request may succeed later, unchanged."""

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False


class RejectedError(DaemonError):
    """The daemon has no room for the request now."""

    code = "REJECTED"
    retryable = True

    def __init__(self, message: str, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class DeadlineError(DaemonError):
    """The request was not finished in the time that it was given."""

    code = "DEADLINE"


class CanceledError(DaemonError):
    """The caller gave up."""

    code = "CANCELED"


class NotFoundError(DaemonError):
    """No such model, workflow or file."""

    code = "NOT_FOUND"


class OutOfMemoryError(DaemonError):
    """The device has no room for the request, after every smaller way was tried."""

    code = "OOM"


class WorkerDiedError(DaemonError):
    """The process that ran the request ended."""

    code = "WORKER_DIED"
    retryable = True


class IncompatibleError(DaemonError):
    """Versions or settings of the two ends do not fit."""

    code = "INCOMPATIBLE"


class AuthError(DaemonError):
    """Wrong or missing token, or a process of another user."""

    code = "AUTH"


class BadRequestError(DaemonError):
    """The request, or a file that it names, makes no sense."""

    code = "BAD_REQUEST"


class ProtocolError(BadRequestError):
    """The bytes on the wire are not our protocol."""


class DrainingError(DaemonError):
    """The daemon is stopping and takes no new work."""

    code = "DRAINING"
    retryable = True


class InternalError(DaemonError):
    """Our fault: the daemon's log has the traceback."""

    code = "INTERNAL"


class ConnectionLostError(DaemonError):
    """The peer went away. Raised where it is noticed, never sent."""

    code = "CONNECTION_LOST"
    retryable = True


class DaemonUnreachableError(ConnectionLostError):
    """Nobody answers at the daemon's address."""

    code = "UNREACHABLE"


class DaemonHangsError(DaemonUnreachableError):
    """A process takes connections at the daemon's address and says nothing."""


BY_CODE: dict[str, type[DaemonError]] = {
    kind.code: kind
    for kind in (
        RejectedError,
        DeadlineError,
        CanceledError,
        NotFoundError,
        OutOfMemoryError,
        WorkerDiedError,
        IncompatibleError,
        AuthError,
        BadRequestError,
        DrainingError,
        InternalError,
    )
}

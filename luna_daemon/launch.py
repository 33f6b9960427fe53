"""Start the daemon from another program, detached, and wait until it answers.

The daemon outlives whoever started it. Two programs that start one at the same time get one daemon: the
second finds the lock taken and ends, and both wait for the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..utils.command_text import command_text
from ..utils.log import get_logger
from .client import DaemonClient
from .config import DaemonConfig
from .errors import (
    AuthError,
    ConfigError,
    ConnectionLostError,
    DaemonHangsError,
    DaemonUnreachableError,
)
from .instance_lock import AlreadyRunsError, is_alive, read_record
from .transport.endpoints import make_runtime_dir

log = get_logger("launch")
LAUNCHER = Path(__file__).resolve().with_name("daemon_server.py")
START_TIMEOUT_S = 90.0
_POLL_S = 0.05
_RECORD_S = 20.0  # a daemon that has the lock writes its record within this
_MOST_HANGS = 2  # a busy machine may keep even a ready daemon from answering once
_LAST_WORDS = 600  # characters


class _NotOursError(DaemonUnreachableError):
    """Another user's daemon, or one with another token, answers at the address: waiting does not help."""


class Launcher:
    """Starts one daemon when it is needed, and knows whether it is there. Thread-safe.

    Args:
        config: Where the daemon is looked for; the one that is started gets the same address.
        options: Further command-line options for it, beside what environment and settings file say.
    """

    def __init__(self, config: DaemonConfig, options: Sequence[str] = ()) -> None:
        self._config = config
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._left_at = 0.0
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Start the daemon unless one is there or starting. Returns at once: was one started?

        Raises:
            DaemonUnreachableError: It cannot be started from here, or somebody else's has its address.
        """
        with self._lock:
            if self._is_starting() or self.answers():
                return False
            self._process, self._left_at = self._spawn(), time.monotonic()
            # It outlives us, or ends while we live on: then somebody has to take note of its end.
            threading.Thread(target=self._process.wait, daemon=True).start()
            log.info("starting the Luna daemon (process %d)", self._process.pid)
            return True

    def wait(
        self, timeout_s: float = START_TIMEOUT_S, interrupt: Callable[[], None] = lambda: None
    ) -> None:
        """Return when the daemon answers.

        Args:
            timeout_s: Longest wait.
            interrupt: Called all the while; what it raises ends the wait.

        Raises:
            DaemonUnreachableError: It has ended, or does not answer in time; the message has its last words.
            DaemonHangsError: It takes connections and does not answer, as a process that was stopped.
        """
        deadline = time.monotonic() + timeout_s
        hangs = 0
        while True:
            try:
                self._ping()
            except DaemonHangsError:
                hangs += 1
                if hangs == _MOST_HANGS:
                    raise
            except _NotOursError:
                raise
            except ConnectionLostError:
                hangs = 0
            else:
                return
            interrupt()
            if not self._may_come():
                raise DaemonUnreachableError(
                    f"The Luna daemon could not be started. {self._last_words()}".strip(),
                    f"Start it by hand to see more: {command_text(sys.executable, LAUNCHER)}",
                )
            if time.monotonic() > deadline:
                raise DaemonUnreachableError(
                    f"The Luna daemon has not answered within {timeout_s:.0f} s of its start.",
                    f"Its log is {self._log_path}.",
                )
            time.sleep(_POLL_S)

    def wait_until_gone(self, timeout_s: float) -> bool:
        """Wait for the daemon's process to end after it was told to; tells whether it has."""
        deadline = time.monotonic() + timeout_s
        while self._may_come():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def answers(self) -> bool:
        """Tell whether the daemon answers.

        Raises:
            DaemonUnreachableError: Somebody else's does, at its address.
        """
        try:
            self._ping()
        except _NotOursError:
            raise
        except ConnectionLostError:
            return False
        return True

    def _ping(self) -> None:
        try:
            with DaemonClient(config=self._config) as client:
                client.ping()
        except AuthError as error:
            raise _NotOursError(
                f"Port {self._config.listen_port} belongs to a daemon that is not ours, or whose token we "
                f"cannot read. {error.message}",
                f"{error.hint} If the daemon is somebody else's, give one of the two another port, by the "
                "setting port or LUNA_PORT.",
            ) from error

    def _is_starting(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _may_come(self) -> bool:
        """Is our process alive, or somebody else's, to whom it left the work?"""
        if self._is_starting():
            self._left_at = time.monotonic()
            return True
        left_to_another = self._process and self._process.returncode == AlreadyRunsError.EXIT_CODE
        if left_to_another and time.monotonic() - self._left_at < _RECORD_S:
            return True
        record = read_record(self._folder / f"daemon-{self._config.listen_port}.json")
        return record is not None and is_alive(record.pid, record.started_at)

    @property
    def _folder(self) -> Path:
        return self._config.folder

    @property
    def _log_path(self) -> Path:
        return self._folder / f"daemon-{self._config.listen_port}.log"

    @property
    def _words_path(self) -> Path:
        return self._folder / f"start-{self._config.listen_port}.log"

    def _last_words(self) -> str:
        try:
            text = self._words_path.read_text("utf-8", "replace").strip()
        except OSError:
            return ""
        return f"It said: {text[-_LAST_WORDS:]}" if text else ""

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            make_runtime_dir(self._folder)
            return self._spawned()
        except (ConfigError, OSError) as error:  # no folder, a full disk, no memory for a process
            raise DaemonUnreachableError(
                f"The Luna daemon could not be started. {error}",
                f"Start it by hand to see more: {command_text(sys.executable, LAUNCHER)}",
            ) from error

    def _spawned(self) -> subprocess.Popen[bytes]:
        address = ["--host", self._config.host, "--port", str(self._config.port)]
        address += ["--runtime-dir", str(self._folder)]
        command = [sys.executable, str(LAUNCHER), *address, *self._options]
        with self._words_path.open("wb") as words:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                cwd=self._folder,  # it must not keep the starter's folder in use
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},  # of its last words
                creationflags=_windows_flags(),
                start_new_session=True,  # Ctrl-C in the starter's terminal is not for the daemon
            )


def _windows_flags() -> int:
    if sys.platform != "win32":
        return 0
    return subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP

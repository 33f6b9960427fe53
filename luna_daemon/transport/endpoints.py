"""Where the daemon listens and how to get there: unix socket and loopback TCP."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DaemonUnreachableError
from .authentication import check_peer

_MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107  # sun_path less the closing zero
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How one daemon can be reached. `socket_path` is None where there are no unix sockets."""

    socket_path: Path | None
    host: str
    port: int
    token_path: Path

    def __str__(self) -> str:
        return f"{self.socket_path or ''} {self.host}:{self.port}".strip()


def has_unix_sockets() -> bool:
    """Does this platform's Python have unix sockets?"""
    return hasattr(socket, "AF_UNIX")


def default_runtime_dir() -> Path:
    """Return the user's folder for sockets, locks, tokens and logs."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "luna-daemon"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "luna-daemon"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "luna-daemon"
    return Path.home() / ".local" / "state" / "luna-daemon"


def make_runtime_dir(path: Path) -> None:
    """Make the folder, accessible to this user alone.

    Raises:
        ConfigError: It belongs to somebody else, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sys.platform != "win32":
            if path.stat().st_uid != os.getuid():
                raise ConfigError(f"The folder {path} belongs to another user.", "Set runtime_dir.")
            path.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"The folder {path} cannot be made ({error.strerror}).", "Set runtime_dir."
        ) from error


def is_loopback(host: str) -> bool:
    """Is `host` an address that only this machine can reach?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen_unix(path: Path) -> socket.socket:
    """Listen on a unix socket that only this user can open; a leftover file is replaced.

    The caller holds the instance lock, so a file that is there has no living owner.

    Raises:
        ConfigError: The path is too long for a socket, something else is there, or no socket can be.
    """
    check_socket_path(path)
    _remove_leftover(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"The socket {path} cannot be made ({error.strerror}).",
            "Set socket_path or runtime_dir.",
        ) from error
    finally:
        os.umask(mask)
    return sock


def _remove_leftover(path: Path) -> None:
    """Remove the socket that a killed daemon left; a path set by mistake may name somebody's file."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or nothing can be: then binding says why
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{path} is there and is not a socket.", "Set another socket_path.")
    path.unlink(missing_ok=True)


def check_socket_path(path: Path) -> None:
    """Raise ConfigError when the path is longer than the system allows for a socket."""
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise ConfigError(
            f"The socket path {path} is longer than {_MAX_SOCKET_PATH} bytes.",
            "Set socket_path or runtime_dir to a shorter one.",
        )


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on a loopback address; port 0 takes a free one.

    Raises:
        ConfigError: The address is not loopback, or the port is taken.
    """
    if not is_loopback(host):
        raise ConfigError(
            f"host is '{host}'; the daemon listens on this machine only.", "Use 127.0.0.1 or ::1."
        )
    try:
        return _listen_on(host, port)
    except OSError as error:
        raise ConfigError(
            f"Port {port} on {host} cannot be used ({error.strerror}).",
            "Another program has it; choose another with --port.",
        ) from error


def _listen_on(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # on Windows the option would let two daemons share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def connect(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    """Return a connected socket: unix where there is one, else loopback TCP.

    Raises:
        DaemonUnreachableError: Nobody answers.
        AuthError: The unix socket is served by another user.
    """
    try:
        if endpoint.socket_path is not None and endpoint.socket_path.exists():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout_s)
                sock.connect(str(endpoint.socket_path))
                check_peer(sock)
            except BaseException:
                sock.close()
                raise
            return sock
        return socket.create_connection((endpoint.host, endpoint.port), timeout_s)
    except OSError as error:
        raise DaemonUnreachableError(
            f"Cannot reach the Luna daemon at {endpoint} ({error.strerror or error}). It is probably not running.",
            "Start it with 'python luna_daemon/daemon_server.py'.",
        ) from error

"""Who may talk to the daemon.

Over a unix socket: processes of the same user, as the kernel tells it. Over loopback TCP: whoever knows
the token, a 256-bit secret in a file that only the user can read. Both ends prove that they know it
(HMAC-SHA256 over both nonces, with a word for the direction), so neither can be impersonated, and the
token itself never travels.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import stat
import struct
import sys
from pathlib import Path

from ..errors import AuthError

DAEMON = b"luna daemon"
CLIENT = b"luna client"
_LOCAL_PEERCRED = 0x001  # macOS, sys/un.h
_SOL_LOCAL = 0


def make_nonce() -> str:
    """Return 32 random bytes as hex."""
    return secrets.token_hex(32)


def prove(token: str, who: bytes, first_nonce: str, second_nonce: str) -> str:
    """Return the proof that `who` knows the token, for these nonces (client's first, daemon's second)."""
    words = who + b"|" + first_nonce.encode() + b"|" + second_nonce.encode()
    return hmac.new(token.encode(), words, hashlib.sha256).hexdigest()


def check_proof(token: str, who: bytes, nonces: tuple[str, str], proof: str) -> None:
    """Raise AuthError unless `proof` shows that `who` knows the token."""
    if not hmac.compare_digest(prove(token, who, *nonces), proof):
        raise AuthError(
            "The token is wrong.",
            "Client and daemon must read the same token file; restart both, or set token_path.",
        )


def load_or_make_token(path: Path) -> str:
    """Return the token, making the file (readable by this user alone) when there is none.

    Raises:
        AuthError: The file cannot be made, is readable by others, or holds no token.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_token(path)
    except OSError as error:
        raise AuthError(
            f"The token file {path} cannot be made ({error.strerror}).", "Set token_path."
        ) from error
    return read_token(path)


def _make_token(path: Path) -> None:
    """Write a token, whole or not at all. Of daemons that start at once, one makes it for all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        _put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def _put_in_place(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # never replaces what another daemon has just made, as a rename would
    except FileExistsError:
        return
    except OSError:  # this file system has no hard links
        os.replace(part, path)


def read_token(path: Path) -> str:
    """Return the token of an existing file.

    Raises:
        AuthError: There is none, it is readable by others, or it holds no token.
    """
    try:
        if sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise AuthError(
                f"The token file {path} can be read by other users.",
                "Run 'chmod 600' on it, or delete it: the daemon makes a new one.",
            )
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuthError(
            f"The token file {path} cannot be read.",
            "Start the daemon once as this user, or set token_path to its token file.",
        ) from error
    if len(token) != 64 or any(c not in "0123456789abcdef" for c in token):
        raise AuthError(
            f"The token file {path} holds no token.", "Delete it: the daemon makes a new one."
        )
    return token


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process at the other end of a unix socket, as the kernel knows it."""
    if hasattr(socket, "SO_PEERCRED"):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", data)[1])
    data = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
    return int(struct.unpack_from("II", data)[1])


def check_peer(sock: socket.socket) -> None:
    """Raise AuthError unless the peer of this unix socket is a process of the same user."""
    if peer_uid(sock) != os.getuid():
        raise AuthError("The process at the other end belongs to another user.")

"""Other ends of a daemon's connections: bare ones that break the rules, and processes to be killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from types import TracebackType
from typing import Any

from luna_collection.luna_daemon.instance_lock import read_record
from luna_collection.luna_daemon.protocol import messages as m
from luna_collection.luna_daemon.protocol.codec import encode, to_client
from luna_collection.luna_daemon.transport import authentication as auth
from luna_collection.luna_daemon.transport.connection import Connection, Deadline

from .conftest import LAUNCHER, SDXL, Daemon

NONCE = "0" * 64
PATIENCE_S = 10.0

_CLIENT = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("alias", {alias!r})
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    alias.load_package()
    from pathlib import Path
    import torch
    from luna_collection.luna_daemon.client import DaemonClient
    from luna_collection.luna_daemon.config_sources import resolve
    address = {{"runtime_dir": Path({folder!r}), "port": 0}}
    client = DaemonClient(config=resolve(address, env={{}}).config)
    client.get_model_proxies("process", "SDXL", {models!r})
    def say(word):
        print(word, flush=True)
"""


class ClientProcess:
    """A client in a process of its own, which runs a script with `client` and `say`."""

    def __init__(self, daemon: Daemon, script: str) -> None:
        alias = str(LAUNCHER.with_name("package_alias.py"))
        head = _CLIENT.format(alias=alias, folder=str(daemon.folder), models=SDXL)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def tell(self) -> None:
        """Let an `input()` of its script go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return the next word it says; "" when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> ClientProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class RawPeer:
    """A connection that says exactly what it is told to say."""

    def __init__(self, daemon: Daemon, *, tcp: bool = False, receive_buffer: int = 0) -> None:
        path = daemon.config.endpoint.socket_path
        over_tcp = tcp or path is None
        self.sock = socket.socket(socket.AF_INET if over_tcp else socket.AF_UNIX)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", tcp_port(daemon)) if over_tcp else str(path))
        self.connection = Connection(self.sock)
        self._token = auth.read_token(daemon.config.endpoint.token_path)
        self.proof: m.Proof | None = None

    def hello(
        self, tiers: tuple[str, ...] = (), protocol: tuple[int, int] = m.PROTOCOL_VERSIONS
    ) -> Any:
        """Introduce itself by the rules; return the answer."""
        versions = m.Versions(package="0", protocol=protocol)
        self.send(m.Hello(versions=versions, nonce=NONCE, pid=1, tiers=tiers))
        reply = self.receive()
        if isinstance(reply, m.Challenge):
            self.proof = m.Proof(proof=auth.prove(self._token, auth.CLIENT, NONCE, reply.nonce))
            self.send(self.proof)
            reply = self.receive()
        return reply

    def send(self, message: m.Message) -> None:
        self.connection.send(encode(message))

    def receive(self, seconds: float = PATIENCE_S) -> Any:
        return to_client.decode(self.connection.receive(Deadline(seconds)))

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close()


def tcp_port(daemon: Daemon) -> int:
    record = read_record(daemon.folder / "daemon-0.json")
    assert record is not None
    return record.port

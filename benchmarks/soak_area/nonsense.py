"""Requests that make no sense, and bytes that are no requests at all."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.config import DaemonConfig
from ...luna_daemon.protocol import messages as m
from ...luna_daemon.protocol.codec import encode
from ...luna_daemon.protocol.framing import frame_head
from ...luna_daemon.protocol.work import Tiling
from .cases import FAMILIES

REFUSALS = ("BAD_REQUEST", "NOT_FOUND")  # what nonsense may be answered with
ANSWER_S = 30.0  # a connection that talks nonsense is closed within this
_SDXL = FAMILIES["SDXL"]
_LATENT = torch.zeros(1, 4, 8, 8)

Nonsense = Callable[[DaemonClient, str], object]
BAD_REQUESTS: Sequence[Nonsense] = (
    lambda c, w: c.vae_decode(torch.zeros(1, 7, 8, 8), workflow_id=w),
    lambda c, w: c.vae_decode(torch.zeros(4, 8), workflow_id=w),
    lambda c, w: c.vae_decode(torch.zeros(1, 4, 0, 8), workflow_id=w),
    lambda c, w: c.vae_decode(_LATENT.to_sparse(), workflow_id=w),
    lambda c, w: c.vae_decode(_LATENT, workflow_id=w, tiling=Tiling(tile=1)),
    lambda c, w: c.vae_decode(_LATENT, workflow_id="nobody registered this"),
    lambda c, w: c.vae_encode(torch.zeros(1, 8, 8, 5), workflow_id=w),
    lambda c, w: c.vae_encode(torch.zeros(8), workflow_id=w),
    lambda c, w: c.clip_encode((), workflow_id=w),
    lambda c, w: c.clip_encode("a", workflow_id=w, clip_skip=99),
    lambda c, w: c.clip_encode("a", workflow_id=w, clip_skip=-1),
    lambda c, w: c.clip_encode("half a character \ud800", workflow_id=w),
    lambda c, w: c.clip_encode("x" * 200_001, workflow_id=w),
    lambda c, w: c.clip_encode("a", workflow_id=""),
    lambda c, w: c.clip_encode("a", workflow_id="nobody registered this"),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {}),
    lambda c, w: c.get_model_proxies("bad", "SD99", _SDXL),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {**_SDXL, "vae": "../../etc"}),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {**_SDXL, "vae": "no/such/folder"}),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {**_SDXL, "vae": r"C:\models\vae"}),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {**_SDXL, "vae": "sdxl/vae\0"}),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {**_SDXL, "vae": "sdxl/text_encoder"}),
    lambda c, w: c.get_model_proxies("bad", "SDXL", {"clip_l": _SDXL["clip_l"]}),
    lambda c, w: c.release("nobody registered this"),
)


def talk_nonsense(config: DaemonConfig, port: int, chance: random.Random) -> None:
    """Open a bare connection, say something wrong, and see that the daemon closes it.

    Raises:
        OSError: Nobody listens, or the connection was reset.
        TimeoutError: The daemon neither answers nor closes.
    """
    with _connect(config, port, chance) as sock:
        data, dies_inside = chance.choice(_SAYINGS)(chance)
        sock.sendall(data)
        if dies_inside:
            return
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(65536):
                pass


def _connect(config: DaemonConfig, port: int, chance: random.Random) -> socket.socket:
    path = config.endpoint.socket_path
    if path is None or chance.random() < 0.5:
        return socket.create_connection((config.host, port), timeout=ANSWER_S)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(ANSWER_S)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def _hello(**versions: Any) -> bytes:
    ours: dict[str, Any] = {"package": "0", "protocol": m.PROTOCOL_VERSIONS, **versions}
    hello = m.Hello(versions=m.Versions(**ours), nonce="0" * 64, pid=1, tiers=())
    return frame_head(encode(hello))


def _header(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _half_ping() -> bytes:
    segment = b'{"dtype":"uint8","shape":[9000],"order":[0],"nbytes":9000}'
    return _header(b'{"type":"ping","id":1,"segments":[' + segment + b"]}") + bytes(100)


# Each gives bytes, and whether the speaker goes away in their middle.
_SAYINGS: Sequence[Callable[[random.Random], tuple[bytes, bool]]] = (
    lambda chance: (chance.randbytes(chance.randrange(8, 5000)) + b"\xff" * 8, False),
    lambda chance: (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", False),
    lambda chance: (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", False),
    lambda chance: ((2**31).to_bytes(4, "big"), False),
    lambda chance: ((16 * 1024 + 1).to_bytes(4, "big"), False),
    lambda chance: (_header(b"{}") * chance.randrange(1, 3000), False),
    lambda chance: (_hello(protocol=(99, 99)), chance.random() < 0.5),
    lambda chance: (_hello() + (9 * 2**20).to_bytes(4, "big"), False),
    lambda chance: (_hello() + b"\xff" * 64, False),
    lambda chance: (_hello() + _header(b'{"type":"launch","id":1}'), False),
    lambda chance: (_hello()[: chance.randrange(1, 60)], True),
    lambda chance: (_hello() + _half_ping(), True),
    lambda chance: (_hello() + frame_head(encode(m.Ping(id=1))), True),
)

"""Requests about the daemon itself."""

from __future__ import annotations

from ..answer import Answer
from ..monitoring.status import snapshot
from ..protocol.messages import GetStatus, Ping, Pong, StatusReply, Stop, Stopping
from ..sessions import Session
from ..supervisor import Supervisor


def ping(daemon: Supervisor, session: Session, request: Ping) -> Answer:
    """Say that the daemon is there."""
    return Answer(Pong(id=request.id))


async def status(daemon: Supervisor, session: Session, request: GetStatus) -> Answer:
    """Describe the whole daemon."""
    return Answer(StatusReply(id=request.id, status=await snapshot(daemon)))


async def stop(daemon: Supervisor, session: Session, request: Stop) -> Answer:
    """Begin to drain; the process ends when that is done."""
    daemon.stop_requested.set()
    return Answer(Stopping(id=request.id))

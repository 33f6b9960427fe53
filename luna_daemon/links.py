"""A client's links: opened when first needed and again after a loss, one for each daemon it uses.

Usually there is one daemon. In split mode there are two, one for text encoders and one for VAEs: the
first says so in its welcome, and then the second is looked for at `vae_port`. Whoever calls need not know.
A fresh link has its workflows registered, and its shared memory proved by a test tensor, before it is
used for them.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..utils.log import get_logger
from ..utils.model_types import POOL_OF_KIND, POOLS_OF_SERVICE, pool_of_role
from .calls import LinkReply, Watch
from .config import DaemonConfig
from .errors import (
    ConnectionLostError,
    DaemonError,
    DaemonUnreachableError,
    InternalError,
    NotFoundError,
)
from .link import Link
from .protocol import messages as m
from .protocol.work import AnyWork, Echo
from .transport.connection import Deadline
from .transport.ladder import INLINE, canary

if TYPE_CHECKING:
    import torch

log = get_logger("client")
T = TypeVar("T")
RELEASE_TIMEOUT_S = 30.0
MAIN = "main"  # the daemon at `port`, whatever it serves


class Links:
    """The links of one client. Thread-safe.

    Args:
        config: Where the daemons are.
        watch: Makes what waiting calls look after, from their seconds.
    """

    def __init__(self, config: DaemonConfig, watch: Callable[[float], Watch]) -> None:
        self._config = config
        self._watch = watch
        self._live: dict[str, Link] = {}
        self._registrations: dict[str, m.RegisterWorkflow] = {}
        self._keys: dict[str, dict[str, str]] = {}  # workflow → role → key of what it registered
        self._lock = threading.RLock()

    @property
    def live(self) -> list[Link]:
        """The links that are open now."""
        return [link for link in self._live.values() if link.broken is None]

    def retrying(self, pool: str, attempt: Callable[[Link], T]) -> T:
        """Do something on the link that serves a pool ("" is any); once more when the connection breaks.

        Raises:
            DaemonUnreachableError: The daemon does not answer.
        """
        link = self._serving(pool)
        try:
            return attempt(link)
        except ConnectionLostError as error:
            if link.ended:
                raise
            log.info("the connection to the daemon was lost (%s); connecting again", error)
        return attempt(self._serving(pool))

    def everywhere(self, attempt: Callable[[Link], T]) -> list[T | None]:
        """Do something on the main daemon and, in split mode, on the one for VAEs.

        The second result is None when that daemon does not answer.
        """
        is_split = self._serving("").welcome.service_type == "clip"
        results: list[T | None] = [self.retrying("", attempt)]
        if is_split:
            try:
                results.append(self.retrying("vae", attempt))
            except DaemonUnreachableError as error:
                log.info("the daemon for VAEs does not answer: %s", error)
                results.append(None)
        return results

    def register(self, request: m.RegisterWorkflow) -> dict[str, str]:
        """Claim a workflow's models with the daemons that serve them; return role → model key."""
        keys: dict[str, str] = {}
        for pool in _pools(request) or [""]:  # the daemon says what is wrong with no models
            keys.update(self.retrying(pool, lambda link: self._register(link, request)).models)
        self._registrations[request.workflow_id] = request
        self._keys[request.workflow_id] = keys
        return keys

    def forget(self, workflow_id: str) -> None:
        """Give up a workflow's models wherever they were claimed."""
        request = self._registrations.pop(workflow_id, None)
        self._keys.pop(workflow_id, None)
        if request is not None and not self.live:
            return  # the claim ended with its connection; a new one would only be opened to say so
        released: set[Link] = set()

        def release(link: Link) -> None:
            if link not in released:  # one daemon may serve several pools
                _release(link, workflow_id, known=request is not None)
                released.add(link)

        for pool in _pools(request) if request else ("",):
            self.retrying(pool, release)

    def run(
        self, workflow_id: str, work: AnyWork, tensors: Sequence[torch.Tensor], watch: Watch
    ) -> LinkReply:
        """Let the daemon that holds the workflow's models do the work."""
        request = _request(workflow_id, work)

        def attempt(link: Link) -> LinkReply:
            registration = self._registrations.get(workflow_id)
            if registration is not None and workflow_id not in link.registered:
                self._register_again(link, registration)
            return _run_on(link, request, watch, tensors)

        return self.retrying(work.pool, attempt)

    def close(self) -> None:
        """End all links."""
        with self._lock:
            for link in self._live.values():
                link.close()
            self._live.clear()

    def _serving(self, pool: str) -> Link:
        main = self._open(MAIN, self._config)
        if not pool or pool in POOLS_OF_SERVICE.get(main.welcome.service_type, ()):
            return main
        if pool == "vae":
            # Its own socket, lock and port follow from the service type.
            other = dataclasses.replace(self._config, service_type="vae", socket_path=None)
            return self._open("vae", other)
        return main  # which says that it does not serve the pool

    def _open(self, service: str, config: DaemonConfig) -> Link:
        with self._lock:
            live = self._live.get(service)
            if live is not None and live.pid != os.getpid():
                live = None  # we are a forked child: the socket belongs to our parent
            if live is None or live.broken is not None:
                live = self._live[service] = Link.open(config)
            return live

    def _register(self, link: Link, request: m.RegisterWorkflow) -> m.Registered:
        """Claim those of a workflow's models that the link's daemon serves."""
        served = POOLS_OF_SERVICE.get(link.welcome.service_type, ())
        fresh = msgspec.structs.replace(_part_of(request, served), id=link.next_id())
        reply = link.call(fresh, self._watch(self._config.load_timeout_s))
        for pool in set(_pools(fresh)) & set(served):
            self._prove_tier(link, request.workflow_id, pool)
        link.registered.add(request.workflow_id)
        return expect(reply.message, m.Registered)

    def _register_again(self, link: Link, request: m.RegisterWorkflow) -> None:
        """Claim a workflow's models on a fresh link: the same weights, or an error."""
        keys = self._register(link, request).models
        known = self._keys.get(request.workflow_id, {})
        changed = [role for role, key in keys.items() if known.get(role, key) != key]
        if changed:
            link.registered.discard(request.workflow_id)
            raise NotFoundError(
                f"The files of the model for '{changed[0]}' have changed since it was registered.",
                "Register the workflow again (get_model_proxies) to use the new ones.",
            )

    def _prove_tier(self, link: Link, workflow_id: str, pool: str) -> None:
        """Send a test tensor through the production path; give the tier up when it does not survive."""
        if link.tier == INLINE or pool in link.proved:
            return
        import torch

        pattern = torch.frombuffer(bytearray(canary(link.next_id())), dtype=torch.uint8)
        request = _request(workflow_id, Echo(tensor=0), pool)
        try:
            watch = self._watch(self._config.request_timeout_s)
            reply = _run_on(link, request, watch, (pattern,))
        except DaemonError as error:
            if error.retryable:  # a full queue or a dead worker says nothing about the tier
                raise
            link.demote(f"the test tensor did not get through: {error}")
            return
        if not torch.equal(reply.tensors[0], pattern):
            link.demote("the test tensor came back changed")
        elif any(segment.slot is None for segment in reply.message.segments):
            link.demote("the daemon did not use it for the test tensor")
        else:
            link.proved.add(pool)


def expect(value: object, kind: type[T]) -> T:
    """Return `value`, which must be of a kind: a daemon that answers otherwise is broken."""
    if not isinstance(value, kind):
        raise InternalError(
            f"The daemon answered with {type(value).__name__} instead of {kind.__name__}."
        )
    return value


def _pools(request: m.RegisterWorkflow) -> list[str]:
    named = {pool_of_role(role) or "" for role in request.models}
    return sorted(named | {POOL_OF_KIND[part.kind] for part in request.parts.values()})


def _part_of(request: m.RegisterWorkflow, served: Collection[str]) -> m.RegisterWorkflow:
    """Return what of a registration a daemon serves; if nothing, all of it, and the daemon says so."""
    models = {role: name for role, name in request.models.items() if pool_of_role(role) in served}
    parts = {
        role: part for role, part in request.parts.items() if POOL_OF_KIND[part.kind] in served
    }
    if not models and not parts:
        return request
    return msgspec.structs.replace(request, models=models, parts=parts)


def _request(workflow_id: str, work: AnyWork, pool: str = "") -> m.Run:
    """Return a request without what belongs to one attempt: id, time left, tier."""
    return m.Run(
        id=0,
        workflow_id=workflow_id,
        work=work,
        deadline_s=0,
        idempotency_key=secrets.token_hex(16),
        pool=pool,
    )


def _run_on(link: Link, request: m.Run, watch: Watch, tensors: Sequence[torch.Tensor]) -> LinkReply:
    fresh = msgspec.structs.replace(
        request,
        id=link.next_id(),
        deadline_s=watch.work_s,
        reply_tier=link.tier,
        priority=watch.priority,
    )
    return link.call(fresh, watch, tensors)


def _release(link: Link, workflow_id: str, *, known: bool) -> None:
    if known and workflow_id not in link.registered:
        return  # the connection that had claimed it is lost, and its claim ends with it
    link.registered.discard(workflow_id)
    watch = Watch(Deadline(RELEASE_TIMEOUT_S))
    link.call(m.ReleaseWorkflow(id=link.next_id(), workflow_id=workflow_id), watch)

"""The way to the daemon for scripts and nodes.

```python
from luna_collection.luna_daemon.client import DaemonClient

with DaemonClient() as client:
    models = {"clip_l": "sdxl/text_encoder", "clip_g": "sdxl/text_encoder_2", "vae": "sdxl/vae"}
    client.get_model_proxies(workflow_id="portraits", model_type="SDXL", models=models)
    encoded = client.clip_encode("a lighthouse", workflow_id="portraits")
    images = client.vae_decode(latents, workflow_id="portraits")
```
A client blocks, may be used by many threads at once, connects when it is first needed and again after
the connection was lost (its workflows are registered anew), and can be interrupted. The functions below
the class do the same on a client that the whole process shares.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ..utils.log import get_logger, log_once
from .config import DaemonConfig
from .config_sources import resolve
from .errors import ConnectionLostError, DaemonError, InternalError
from .link import Link, LinkReply, Watch
from .protocol import messages as m
from .protocol.work import (
    AnyWork,
    Conditioning,
    DecodeLatent,
    Echo,
    EncodeImage,
    EncodeText,
    Images,
    Latents,
    Tiling,
)
from .remote_models import EncodedText, ModelProxies, RemoteTextEncoder, RemoteVAE
from .transport.connection import Deadline
from .transport.ladder import INLINE, canary

if TYPE_CHECKING:
    import torch

log = get_logger("client")
R = TypeVar("R")
POOL_OF = {"vae": "vae"}  # role → pool; every other role is a text encoder


class DaemonClient:
    """A connection to the daemon that repairs itself.

    Args:
        host: Address of the daemon; default: the setting `host`.
        port: Port of the daemon; default: the setting `port`.
        config: All settings; default: environment and settings file.
        interrupt: Called every 50 ms while a call waits; what it raises ends the call, and the daemon
            drops the request. ComfyUI's `throw_exception_if_processing_interrupted` fits.
        on_note: Told what was done otherwise than asked; default: logged, each sentence once.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        config: DaemonConfig | None = None,
        interrupt: Callable[[], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        config = config or resolve().config
        changes: dict[str, Any] = {
            k: v for k, v in (("host", host), ("port", port)) if v is not None
        }
        self.config = dataclasses.replace(config, **changes)
        self._interrupt = interrupt
        self._on_note = on_note or (lambda text: log_once(log, 30, text, "%s", text))
        self._registrations: dict[str, m.RegisterWorkflow] = {}
        self._live: Link | None = None
        self._lock = threading.RLock()

    def get_model_proxies(
        self, workflow_id: str, model_type: str, models: Mapping[str, str | os.PathLike[str]]
    ) -> ModelProxies:
        """Register a workflow's models; the daemon loads what is not in its memory yet.

        Args:
            workflow_id: Name of the workflow; its models stay in memory while this client lives.
            model_type: A family such as "SDXL" or "SD1.5" (utils/model_types.py).
            models: role (clip_l, clip_g, vae) → file or folder below the daemon's model roots.

        Raises:
            NotFoundError: A model is not there.
            BadRequestError: A model is damaged or of another kind, or a role is missing.
            DaemonUnreachableError: No daemon answers.
        """
        request = m.RegisterWorkflow(
            id=0,
            workflow_id=workflow_id,
            model_type=model_type,
            models={role: os.fspath(name) for role, name in models.items()},
        )
        registered = self._retrying(lambda link: self._register(link, request))
        self._registrations[workflow_id] = request
        return ModelProxies(
            clip=RemoteTextEncoder(self, workflow_id) if any(r != "vae" for r in models) else None,
            vae=RemoteVAE(self, workflow_id) if "vae" in models else None,
            keys=registered.models,
        )

    def clip_encode(
        self,
        text: str | Sequence[str],
        *,
        workflow_id: str,
        clip_skip: int = 0,
        timeout_s: float | None = None,
    ) -> EncodedText:
        """Encode one or several texts with the workflow's text encoders.

        Args:
            text: One text, or several.
            workflow_id: A registered workflow.
            clip_skip: Layers to leave out at the end, counted from the model type's own default.
            timeout_s: Default: the setting `request_timeout_s`.
        """
        texts = (text,) if isinstance(text, str) else tuple(text)
        done, tensors = self._run(
            workflow_id, EncodeText(texts=texts, clip_skip=clip_skip), (), timeout_s
        )
        result = _expect(done.result, Conditioning)
        pooled = tensors[result.pooled] if result.pooled is not None else None
        return EncodedText(tensors[result.cond], pooled, done.cache_hit, done.notes)

    def vae_decode(
        self,
        latents: torch.Tensor,
        *,
        workflow_id: str,
        tiling: Tiling | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """Decode latents [B, C, h, w], in the VAE's own space, into images [B, H, W, 3] in 0..1."""
        work = DecodeLatent(latent=0, tiling=tiling)
        done, tensors = self._run(workflow_id, work, (latents,), timeout_s, on_progress)
        return tensors[_expect(done.result, Images).images]

    def vae_encode(
        self,
        images: torch.Tensor,
        *,
        workflow_id: str,
        tiling: Tiling | None = None,
        timeout_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> torch.Tensor:
        """Encode images [B, H, W, 3] in 0..1 into latents [B, C, h, w] in the VAE's own space."""
        work = EncodeImage(image=0, tiling=tiling)
        done, tensors = self._run(workflow_id, work, (images,), timeout_s, on_progress)
        return tensors[_expect(done.result, Latents).latents]

    def status(self) -> dict[str, Any]:
        """Return a snapshot of the daemon (luna_daemon/status.py lists what is in it)."""
        return self.call(lambda i: m.GetStatus(id=i), m.StatusReply).status

    def ping(self) -> None:
        """Return when the daemon has answered."""
        self.call(lambda i: m.Ping(id=i), m.Pong)

    def release(self, workflow_id: str) -> None:
        """Give up the workflow's models."""
        self._registrations.pop(workflow_id, None)
        self.call(lambda i: m.ReleaseWorkflow(id=i, workflow_id=workflow_id), m.Released)
        if self._live is not None:
            self._live.registered.discard(workflow_id)

    def stop_daemon(self) -> None:
        """Let the daemon finish what runs and end."""
        self.call(lambda i: m.Stop(id=i), m.Stopping)

    @property
    def transport(self) -> str:
        """How tensors travel now: memfd, named or inline; empty while there is no connection."""
        return self._live.tier if self._live is not None else ""

    def close(self) -> None:
        """End the connection; the daemon keeps the workflows' models for a grace period."""
        with self._lock:
            if self._live is not None:
                self._live.close()
            self._live = None

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, make: Callable[[int], m.Request], kind: type[R]) -> R:
        """Send a request made from a fresh id and return its reply, of the kind expected."""
        watch = self._watch(self.config.request_timeout_s)
        reply = self._retrying(lambda link: link.call(make(link.next_id()), watch))
        return _expect(reply.message, kind)

    def _run(
        self,
        workflow_id: str,
        work: AnyWork,
        tensors: Sequence[torch.Tensor],
        timeout_s: float | None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[m.RunDone, list[torch.Tensor]]:
        watch = self._watch(timeout_s or self.config.request_timeout_s, on_progress)
        request = self._request(workflow_id, work)

        def attempt(link: Link) -> LinkReply:
            self._ensure_registered(link, workflow_id)
            return _run_on(link, request, watch, tensors)

        reply = self._retrying(attempt)
        done = _expect(reply.message, m.RunDone)
        for note in done.notes:
            self._on_note(note)
        return done, reply.tensors

    def _request(self, workflow_id: str, work: AnyWork, pool: str = "") -> m.Run:
        """Return a request without what belongs to one attempt: id, time left, tier."""
        return m.Run(
            id=0,
            workflow_id=workflow_id,
            work=work,
            deadline_s=0,
            idempotency_key=secrets.token_hex(16),
            pool=pool,
        )

    def _retrying(self, attempt: Callable[[Link], Any]) -> Any:
        """Do something on a live link; once more on a fresh one when the connection breaks."""
        link = self._link()
        try:
            return attempt(link)
        except ConnectionLostError as error:
            log.info("the connection to the daemon was lost (%s); connecting again", error)
        return attempt(self._link())

    def _link(self) -> Link:
        with self._lock:
            live = self._live
            if live is not None and live.pid != os.getpid():
                live = None  # we are a forked child: the socket belongs to our parent
            if live is None or live.broken is not None:
                live = self._live = Link.open(self.config)
            return live

    def _ensure_registered(self, link: Link, workflow_id: str) -> None:
        """After a reconnect, claim the workflow's models again before the first request for it."""
        request = self._registrations.get(workflow_id)
        if request is not None and workflow_id not in link.registered:
            self._register(link, request)

    def _register(self, link: Link, request: m.RegisterWorkflow) -> m.Registered:
        fresh = msgspec.structs.replace(request, id=link.next_id())
        reply = link.call(fresh, self._watch(self.config.load_timeout_s))
        link.registered.add(request.workflow_id)
        for pool in sorted({POOL_OF.get(role, "clip") for role in request.models}):
            self._prove_tier(link, request.workflow_id, pool)
        return _expect(reply.message, m.Registered)

    def _prove_tier(self, link: Link, workflow_id: str, pool: str) -> None:
        """Send a test tensor through the production path; give the tier up when it does not survive."""
        if link.tier == INLINE or pool in link.proved:
            return
        import torch

        pattern = torch.frombuffer(bytearray(canary(link.next_id())), dtype=torch.uint8)
        watch = self._watch(self.config.request_timeout_s)
        request = self._request(workflow_id, Echo(tensor=0), pool)
        try:
            reply = _run_on(link, request, watch, (pattern,))
        except ConnectionLostError:
            raise
        except DaemonError as error:
            link.demote(f"the test tensor did not get through: {error}")
            return
        if not torch.equal(reply.tensors[0], pattern):
            link.demote("the test tensor came back changed")
        elif any(segment.slot is None for segment in reply.message.segments):
            link.demote("the daemon did not use it for the test tensor")
        else:
            link.proved.add(pool)

    def _watch(
        self, seconds: float, on_progress: Callable[[int, int], None] | None = None
    ) -> Watch:
        return Watch(Deadline(seconds), self._interrupt, on_progress, self._on_note)


def _run_on(link: Link, request: m.Run, watch: Watch, tensors: Sequence[torch.Tensor]) -> LinkReply:
    fresh = msgspec.structs.replace(
        request,
        id=link.next_id(),
        deadline_s=watch.deadline.remaining(),
        reply_tier=link.tier,
    )
    return link.call(fresh, watch, tensors)


def _expect(value: Any, kind: type[R]) -> R:
    if not isinstance(value, kind):
        raise InternalError(
            f"The daemon answered with {type(value).__name__} instead of {kind.__name__}."
        )
    return value


_default: DaemonClient | None = None
_default_lock = threading.Lock()


def default_client() -> DaemonClient:
    """Return the client that the whole process shares."""
    global _default
    with _default_lock:
        if _default is None:
            _default = DaemonClient()
        return _default


def get_model_proxies(
    workflow_id: str, model_type: str, models: Mapping[str, str | os.PathLike[str]]
) -> ModelProxies:
    """`DaemonClient.get_model_proxies` on the shared client."""
    return default_client().get_model_proxies(workflow_id, model_type, models)


def clip_encode(text: str | Sequence[str], *, workflow_id: str, clip_skip: int = 0) -> EncodedText:
    """`DaemonClient.clip_encode` on the shared client."""
    return default_client().clip_encode(text, workflow_id=workflow_id, clip_skip=clip_skip)


def vae_decode(
    latents: torch.Tensor, *, workflow_id: str, tiling: Tiling | None = None
) -> torch.Tensor:
    """`DaemonClient.vae_decode` on the shared client."""
    return default_client().vae_decode(latents, workflow_id=workflow_id, tiling=tiling)


def vae_encode(
    images: torch.Tensor, *, workflow_id: str, tiling: Tiling | None = None
) -> torch.Tensor:
    """`DaemonClient.vae_encode` on the shared client."""
    return default_client().vae_encode(images, workflow_id=workflow_id, tiling=tiling)


def status() -> dict[str, Any]:
    """`DaemonClient.status` on the shared client."""
    return default_client().status()


def release(workflow_id: str) -> None:
    """`DaemonClient.release` on the shared client."""
    default_client().release(workflow_id)

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
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ..utils.log import get_logger, log_once
from ..utils.model_types import VAE_ROLE
from .calls import Watch
from .config import DaemonConfig
from .config_sources import resolve
from .links import Links, expect
from .protocol import messages as m
from .protocol.work import (
    AnyWork,
    CallModel,
    Conditioning,
    DecodeLatent,
    EncodeImage,
    EncodeText,
    FetchWeights,
    Images,
    Latents,
    Tiling,
)
from .remote_models import EncodedText, ModelProxies, RemoteTextEncoder, RemoteVAE
from .transport.connection import Deadline

if TYPE_CHECKING:
    import torch

log = get_logger("client")
PRIORITIES = {"high": 0, "normal": 1, "low": 2}


class DaemonClient:
    """A connection to the daemon that repairs itself.

    Args:
        host: Address of the daemon; default: the setting `host`.
        port: Port of the daemon; default: the setting `port`.
        config: All settings; default: environment and settings file.
        interrupt: Called every 50 ms while a call waits; what it raises ends the call, and the daemon
            drops the request. ComfyUI's `throw_exception_if_processing_interrupted` fits.
        on_note: Told what was done otherwise than asked; default: logged, each sentence once.
        priority: Requests of a higher priority are served first; "high" suits a person who waits, "low"
            a batch that runs over night.
        patient: Wait for work as long as the daemon shows signs of life, instead of `request_timeout_s` at
            most: that is then how long it may show none. For those who can interrupt.
    """

    def __init__(  # noqa: PLR0913  (choices by keyword, of a public constructor)
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        config: DaemonConfig | None = None,
        interrupt: Callable[[], None] | None = None,
        on_note: Callable[[str], None] | None = None,
        priority: Literal["high", "normal", "low"] = "normal",
        patient: bool = False,
    ) -> None:
        config = config or resolve().config
        changes: dict[str, Any] = {
            k: v for k, v in (("host", host), ("port", port)) if v is not None
        }
        self.config = dataclasses.replace(config, **changes)
        self._interrupt = interrupt
        self._on_note = on_note or (lambda text: log_once(log, 30, text, "%s", text))
        self._priority = PRIORITIES[priority]
        self._patient = patient
        self._links = Links(self.config, self._watch)

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
        keys = self._links.register(request)
        return ModelProxies(
            clip=RemoteTextEncoder(self, workflow_id)
            if any(role != VAE_ROLE for role in models)
            else None,
            vae=RemoteVAE(self, workflow_id) if VAE_ROLE in models else None,
            keys=keys,
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
        result = expect(done.result, Conditioning)
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
        return tensors[expect(done.result, Images).images]

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
        return tensors[expect(done.result, Latents).latents]

    def claim(
        self,
        workflow_id: str,
        model_type: str,
        parts: Mapping[str, m.ModelPart],
        numerics: Mapping[str, str],
    ) -> dict[str, str]:
        """Register whole objects of ComfyUI for a workflow, and return role → model key.

        What the workflow registered before and is not among `parts` is no longer claimed.

        Args:
            workflow_id: Name of the workflow.
            model_type: A family such as "SDXL", for status and for text encodes.
            parts: role (any name, one for each object) → what it is made of.
            numerics: Settings of this process's ComfyUI that decide about values.

        Raises:
            IncompatibleError: The daemon's workers run with other settings.
            NotFoundError: A file is not there.
            BadRequestError: A file is damaged or of another kind.
            DaemonUnreachableError: No daemon answers.
        """
        request = m.RegisterWorkflow(
            id=0,
            workflow_id=workflow_id,
            model_type=model_type,
            parts=dict(parts),
            numerics=dict(numerics),
        )
        return self._links.register(request)

    def call(
        self,
        workflow_id: str,
        work: CallModel | FetchWeights,
        tensors: Sequence[torch.Tensor] = (),
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[m.RunDone, list[torch.Tensor]]:
        """Call a model of a workflow; the proxies of luna_daemon/proxy are made of this.

        Returns:
            The reply, whose result is a `Returned`, `Weights` or `Needed`, and its tensors.
        """
        return self._run(workflow_id, work, tensors, timeout_s, on_progress)

    def status(self) -> dict[str, Any]:
        """Return a snapshot of the daemon (luna_daemon/monitoring/status.py lists what is in it).

        In split mode it is that of the daemon for text encoders, with the other's under `vae_daemon`
        (None when it does not answer).
        """
        watch = self._watch(self.config.request_timeout_s)
        replies = self._links.everywhere(
            lambda link: link.call(m.GetStatus(id=link.next_id()), watch).message
        )
        snapshots = [reply and expect(reply, m.StatusReply).status for reply in replies]
        status = dict(snapshots[0] or {})
        if len(snapshots) > 1:
            status["vae_daemon"] = snapshots[1]
        return status

    def ping(self) -> None:
        """Return when the daemon has answered."""
        watch = self._watch(self.config.request_timeout_s)
        self._links.retrying("", lambda link: link.call(m.Ping(id=link.next_id()), watch))

    def release(self, workflow_id: str) -> None:
        """Give up the workflow's models."""
        self._links.forget(workflow_id)

    def stop_daemon(self) -> None:
        """Let the daemon (in split mode: both) finish what runs and end."""
        watch = self._watch(self.config.request_timeout_s)
        self._links.everywhere(lambda link: link.call(m.Stop(id=link.next_id()), watch))

    @property
    def is_connected(self) -> bool:
        """Whether a daemon is at the other end, as far as is known; before the first call none is."""
        return bool(self._links.live)

    @property
    def transport(self) -> str:
        """How tensors travel now: memfd, named or inline; empty while there is no connection."""
        return ", ".join(sorted({link.tier for link in self._links.live}))

    def close(self) -> None:
        """End the connection; the daemon keeps the workflows' models for a grace period."""
        self._links.close()

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(
        self,
        workflow_id: str,
        work: AnyWork,
        tensors: Sequence[torch.Tensor],
        timeout_s: float | None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[m.RunDone, list[torch.Tensor]]:
        seconds = self.config.request_timeout_s if timeout_s is None else timeout_s
        watch = self._watch(seconds, on_progress)
        reply = self._links.run(workflow_id, work, tensors, watch)
        done = expect(reply.message, m.RunDone)
        for note in done.notes:
            self._on_note(note)
        return done, reply.tensors

    def _watch(
        self, seconds: float, on_progress: Callable[[int, int], None] | None = None
    ) -> Watch:
        deadline = Deadline(seconds)
        return Watch(
            deadline, self._interrupt, on_progress, self._on_note, self._priority, self._patient
        )


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

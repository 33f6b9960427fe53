"""What `get_model_proxies` hands to a script: a text encoder and a VAE that live in the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Conditioning of one or several texts.

    Attributes:
        cond: [N, tokens, width] float32.
        pooled: [N, width] float32, or None where the encoders give none.
        cache_hit: Did the daemon have all of it in its cache?
        notes: What was done otherwise than asked, such as a text that was too long.
    """

    cond: torch.Tensor
    pooled: torch.Tensor | None
    cache_hit: bool = False
    notes: tuple[str, ...] = ()


class Daemon(Protocol):
    """The part of a client that the models need."""

    def clip_encode(
        self, text: str | Sequence[str], *, workflow_id: str, clip_skip: int = 0
    ) -> EncodedText:
        """Encode texts."""

    def vae_decode(self, latents: torch.Tensor, *, workflow_id: str) -> torch.Tensor:
        """Decode latents."""

    def vae_encode(self, images: torch.Tensor, *, workflow_id: str) -> torch.Tensor:
        """Encode images."""


@dataclass(frozen=True, slots=True)
class RemoteTextEncoder:
    """The text encoders of one workflow."""

    daemon: Daemon
    workflow_id: str

    def encode(self, text: str | Sequence[str], clip_skip: int = 0) -> EncodedText:
        """See `DaemonClient.clip_encode`."""
        return self.daemon.clip_encode(text, workflow_id=self.workflow_id, clip_skip=clip_skip)


@dataclass(frozen=True, slots=True)
class RemoteVAE:
    """The VAE of one workflow."""

    daemon: Daemon
    workflow_id: str

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See `DaemonClient.vae_decode`."""
        return self.daemon.vae_decode(latents, workflow_id=self.workflow_id)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DaemonClient.vae_encode`."""
        return self.daemon.vae_encode(images, workflow_id=self.workflow_id)


@dataclass(frozen=True, slots=True)
class ModelProxies:
    """The models of one workflow. What the workflow did not name is None.

    Attributes:
        clip: Its text encoders.
        vae: Its VAE.
        keys: role → model key; equal keys mean shared weights.
    """

    clip: RemoteTextEncoder | None
    vae: RemoteVAE | None
    keys: dict[str, str]

"""Good requests: the same ones, in the same order, in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.protocol.work import (
    AnyWork,
    DecodeLatent,
    EncodeImage,
    EncodeText,
    Tiling,
)

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "SDXL": {
        "clip_l": "sdxl/text_encoder",
        "clip_g": "sdxl/text_encoder_2",
        "vae": "sdxl/vae",
    },
    "SD1.5": {"clip_l": "sd15/text_encoder", "vae": "sd15/vae"},
}
TEXTS = 40
SIDES = (
    8,
    16,
    32,
    48,
)  # of latents: the small ones travel in messages, the others in shared memory
TILING = Tiling(tile=64, overlap=16)
Call = Callable[[DaemonClient, str, float | None], Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Case:
    """A request that has one right answer."""

    name: str
    family: str
    work: AnyWork
    tensors: tuple[torch.Tensor, ...]
    call: Call


def all_cases() -> list[Case]:
    """Return all of them."""
    return [case for family in FAMILIES for case in (*_texts(family), *_images(family))]


def _texts(family: str) -> Iterator[Case]:
    for number in range(TEXTS):
        for clip_skip in (0, 1):
            texts = (f"a lighthouse, seen {number} times",)
            if number % 5 == 0:
                texts += ("a second text",)
            yield Case(
                f"text/{family}/{number}/{clip_skip}",
                family,
                EncodeText(texts=texts, clip_skip=clip_skip),
                (),
                _text_call(texts, clip_skip),
            )


def _images(family: str) -> Iterator[Case]:
    for number, side in enumerate(SIDES):
        for tiling in (None, TILING):
            random = torch.Generator().manual_seed(number)
            latent = torch.randn((1 + number % 2, 4, side, side), generator=random)
            image = torch.rand((1, 8 * side, 8 * side, 3), generator=random)
            name = f"{family}/{side}/{'tiled' if tiling else 'whole'}"
            yield Case(
                f"decode/{name}",
                family,
                DecodeLatent(latent=0, tiling=tiling),
                (latent,),
                _decode_call(latent, tiling),
            )
            yield Case(
                f"encode/{name}",
                family,
                EncodeImage(image=0, tiling=tiling),
                (image,),
                _encode_call(image, tiling),
            )


def _text_call(texts: Sequence[str], clip_skip: int) -> Call:
    def call(
        client: DaemonClient, workflow: str, timeout_s: float | None
    ) -> Sequence[torch.Tensor]:
        encoded = client.clip_encode(
            texts, workflow_id=workflow, clip_skip=clip_skip, timeout_s=timeout_s
        )
        return [one for one in (encoded.cond, encoded.pooled) if one is not None]

    return call


def _decode_call(latent: torch.Tensor, tiling: Tiling | None) -> Call:
    return lambda client, workflow, timeout_s: [
        client.vae_decode(latent, workflow_id=workflow, tiling=tiling, timeout_s=timeout_s)
    ]


def _encode_call(image: torch.Tensor, tiling: Tiling | None) -> Call:
    return lambda client, workflow, timeout_s: [
        client.vae_encode(image, workflow_id=workflow, tiling=tiling, timeout_s=timeout_s)
    ]

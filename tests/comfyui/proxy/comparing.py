"""What is compared, and how: bit for bit, with types, shapes and layouts in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

PROMPT = "a (photo:1.3) of a [cat], highly detailed"


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """Return the tensors of a nested value in a fixed order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from tensors_of(value[key])


def assert_same(ours: Any, stock: Any) -> None:
    """Compare two results of nodes."""
    one, other = list(tensors_of(ours)), list(tensors_of(stock))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.shape, a.stride(), a.device) == (b.dtype, b.shape, b.stride(), b.device)
        assert torch.isfinite(b).all()
        assert torch.equal(a, b)


def assert_both(pair: tuple[Any, Any], run: Callable[[Any], Any]) -> Any:
    """Let both objects go through the same nodes, compare, and return the stock result."""
    ours, stock = run(pair[0]), run(pair[1])
    assert_same(ours, stock)
    return stock


def assert_differ(one: Any, other: Any) -> None:
    """Check that something had an effect at all."""
    assert not torch.equal(next(tensors_of(one)), next(tensors_of(other)))


def encode(clip: Any, text: str = PROMPT) -> Any:
    """CLIPTextEncode."""
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0]


def with_lora(clip: Any, weights: dict[str, torch.Tensor], strength: float = 0.7) -> Any:
    """LoraLoader, from weights that were read already."""
    import comfy.sd

    return comfy.sd.load_lora_for_models(None, clip, weights, 1.0, strength)[1]


def latent(channels: int = 4, seed: int = 5) -> dict[str, torch.Tensor]:
    """Return a latent as nodes pass it."""
    generator = torch.Generator().manual_seed(seed)
    return {"samples": torch.randn(1, channels, 5, 4, generator=generator)}


def image(height: int = 44, width: int = 34, seed: int = 6) -> torch.Tensor:
    """Return an image whose sides are no multiples of eight."""
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def decoded(vae: Any, samples: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """VAEDecode."""
    import nodes

    pixels: torch.Tensor = nodes.VAEDecode().decode(vae, samples or latent())[0]
    return pixels


def encoded(vae: Any, pixels: torch.Tensor | None = None) -> Any:
    """VAEEncode."""
    import nodes

    return nodes.VAEEncode().encode(vae, image() if pixels is None else pixels)[0]

"""A VAE that runs out of memory, or is cancelled, on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.engine import Resident
from luna_collection.luna_daemon.errors import CanceledError, OutOfMemoryError

Run = Callable[..., torch.Tensor]


def count_calls(vae: Resident, fails_above: int | None = None) -> list[int]:
    """Count the decoder's calls by cells; it runs out of memory above so many."""
    module, calls = vae.model.module, []
    original = module.decode

    def run(latent: torch.Tensor) -> Any:
        calls.append(latent.shape[0] * latent.shape[2] * latent.shape[3])
        if fails_above is not None and calls[-1] > fails_above:
            raise torch.OutOfMemoryError("no")
        return original(latent)

    module.decode = run
    return calls


@pytest.mark.parametrize("tiling", [{}, {"tile": 64, "overlap": 0}], ids=["items", "tiles"])
def test_cancel_takes_effect_between_parts(
    decode: Run, vae: Resident, recorder: Any, tiling: dict[str, int]
) -> None:
    calls = count_calls(vae)
    latent = torch.randn(*((1, 4, 8, 32) if tiling else (4, 4, 8, 8)))
    with pytest.raises(CanceledError):
        decode(latent, recorder(cancel_at=3), **tiling)
    assert 0 < len(calls) < 4


def test_out_of_memory_leads_to_tiles_and_is_told(
    decode: Run, vae: Resident, recorder: Any
) -> None:
    latent = torch.randn(2, 4, 40, 20)
    expected = decode(latent, tile=256, overlap=64)
    calls, control = count_calls(vae, fails_above=700), recorder()
    image = decode(latent, control)
    assert torch.equal(image, expected)
    assert calls[0] == 800
    assert max(calls[1:]) <= 700
    assert control.notes == [
        "Decoding 2 x 160 x 320 pixels did not fit into the memory of 'cpu'; it goes on in tiles of "
        "256 pixels, so the result differs a little."
    ]
    assert control.steps[-1] == (4, 4)


def test_tiles_that_were_asked_for_shrink_too(decode: Run, vae: Resident, recorder: Any) -> None:
    latent = torch.randn(1, 4, 40, 40)
    count_calls(vae, fails_above=300)
    control = recorder()
    image = decode(latent, control, tile=300, overlap=32)
    assert image.shape == (1, 320, 320, 3)
    assert [note.split("tiles of ")[1][:3] for note in control.notes] == ["256", "128"]


def test_when_no_tile_fits_the_error_says_so(decode: Run, vae: Resident, recorder: Any) -> None:
    count_calls(vae, fails_above=0)
    control = recorder()
    with pytest.raises(OutOfMemoryError, match=r"Decoding 1 x 160 x 320 pixels needs more memory"):
        decode(torch.randn(1, 4, 40, 20), control)
    assert len(control.notes) == 2

"""Which file is loaded for a chosen precision, and what the person is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.utils.conversion.refusal import (
    ConversionCancelledError,
    ConversionRefusedError,
    Reason,
)
from luna_collection.utils.conversion.streaming import Run
from luna_collection.utils.conversion.use import Used, in_precision

from .model_files import CLIP_L, flux, save, sdxl_checkpoint, weights


def use(source: Path, precision: str, folder: Path, *, cancelled: bool = False) -> Used:
    return in_precision(
        source,
        precision,
        folder / "unet",
        Run(is_cancelled=lambda: cancelled),
    )


def test_it_is_made_once_and_found_ever_after(tmp_path: Path) -> None:
    source = sdxl_checkpoint(tmp_path)
    first = use(source, "fp8_e4m3fn_scaled", tmp_path)
    assert first.path == tmp_path / "unet/fp8/sdxl_unet_fp8_e4m3fn_scaled.safetensors"
    assert first.note.startswith(
        "Precision: fp8_e4m3fn_scaled, 'fp8/sdxl_unet_fp8_e4m3fn_scaled.safetensors' was made now of "
        "'sdxl.safetensors' ("
    )
    again = use(source, "fp8_e4m3fn_scaled", tmp_path)
    assert again.path == first.path
    assert "was made earlier" in again.note


def test_the_same_precision_and_quantised_files_are_used_as_they_are_and_told(
    tmp_path: Path,
) -> None:
    source = flux(tmp_path)
    same = use(source, "bf16", tmp_path)
    assert same == Used(
        source, "Precision: 'flux.safetensors' is in bf16 already. It is used as it is."
    )
    small = use(source, "fp8_e4m3fn", tmp_path).path
    quantised = use(small, "bf16", tmp_path)
    assert quantised.path == small
    assert "is quantised already" in quantised.note


def test_a_quantised_gguf_file_is_used_as_it_is(tmp_path: Path) -> None:
    file = use(flux(tmp_path), "gguf_Q8_0", tmp_path).path
    used = use(file, "fp8_e4m3fn", tmp_path)
    assert used.path == file
    assert "is quantised already (Q8_0)" in used.note


def test_a_gguf_file_in_sixteen_bits_is_converted(tmp_path: Path) -> None:
    file = use(flux(tmp_path), "gguf_BF16", tmp_path).path
    assert use(file, "gguf_Q8_0", tmp_path).path == tmp_path / "unet/gguf/flux_BF16_Q8_0.gguf"
    assert use(file, "gguf_BF16", tmp_path).path == file


def test_what_is_no_model_or_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    encoder = save(tmp_path / "clip.safetensors", weights(CLIP_L))
    with pytest.raises(ConversionRefusedError) as refused:
        use(encoder, "bf16", tmp_path)
    assert refused.value.reason is Reason.NO_MODEL
    with pytest.raises(ConversionRefusedError, match="only safetensors and GGUF files are"):
        use(tmp_path / "old.ckpt", "bf16", tmp_path)


def test_stopping_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ConversionCancelledError):
        use(flux(tmp_path), "fp8_e5m2", tmp_path, cancelled=True)

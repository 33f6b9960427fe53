"""Conditioning against diffusers' own pipelines, built from the same folders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from luna_collection.luna_daemon.engines.engine import Outcome, Resident
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import BadRequestError, CanceledError, OutOfMemoryError
from luna_collection.luna_daemon.protocol.work import EncodeText
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TEXTS = (
    "a photo of a cat in the rain",
    "",
    "An astronaut's cafe, 100% (surreal) and colorful light!",
    "the light of the river and the forest in the evening " * 12,
)
Encode = Callable[..., Outcome]


@pytest.fixture
def encode(engine: HfEngine, recorder: Any) -> Encode:
    """encode(texts, {role: resident}, clip_skip=0, model_type="SD1.5", control=…)"""

    def run(
        texts: Sequence[str],
        models: dict[str, Resident],
        clip_skip: int = 0,
        model_type: str = "SD1.5",
        control: Any = None,
    ) -> Outcome:
        work = EncodeText(texts=tuple(texts), clip_skip=clip_skip)
        return engine.run(work, model_type, models, (), control or recorder())

    return run


@pytest.fixture
def small(load: Any, sd15: Path) -> dict[str, Resident]:
    return {"clip_l": load(sd15 / "text_encoder", "clip_l")}


@pytest.fixture
def large(load: Any, sdxl: Path) -> dict[str, Resident]:
    return {
        "clip_l": load(sdxl / "text_encoder", "clip_l"),
        "clip_g": load(sdxl / "text_encoder_2", "clip_g"),
    }


def read(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    # transformers uses the weights where they lie in the file, and what the text projection rounds
    # to depends on their address; a copy lies where allocators put it.
    encoder = copy.deepcopy(kind.from_pretrained(folder, dtype=dtype).eval())
    if kind is CLIPTextModel and not hasattr(encoder, "text_model"):
        # diffusers 0.42 looks for the norm where transformers had it before version 5.
        encoder.__dict__["text_model"] = encoder
    return encoder


def sd15_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=read(CLIPTextModel, folder / "text_encoder", dtype),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=read(CLIPTextModel, folder / "text_encoder", dtype),
        text_encoder_2=read(CLIPTextModelWithProjection, folder / "text_encoder_2", dtype),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=None,
        scheduler=None,
        add_watermarker=False,
    )


@torch.no_grad()
def sd15_reference(pipe: StableDiffusionPipeline, text: str, skip: int) -> list[torch.Tensor]:
    cond, _ = pipe.encode_prompt(text, "cpu", 1, False, clip_skip=skip or None)
    ids = pipe.tokenizer(
        text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    return [cond, pipe.text_encoder(ids).pooler_output]


@torch.no_grad()
def sdxl_reference(pipe: StableDiffusionXLPipeline, text: str, skip: int) -> list[torch.Tensor]:
    cond, _, pooled, _ = pipe.encode_prompt(
        text, device="cpu", do_classifier_free_guidance=False, clip_skip=skip or None
    )
    return [cond, pooled]


def assert_equal(outcome: Outcome, rows: list[list[torch.Tensor]]) -> None:
    for tensor, column in zip(outcome.tensors, zip(*rows, strict=True), strict=True):
        assert tensor.dtype == torch.float32
        assert not tensor.is_inference()
        assert not tensor.requires_grad
        assert torch.equal(tensor, torch.cat(column).float())


@pytest.mark.parametrize("skip", [0, 1, 2, 5])
def test_sd15_equals_the_pipeline(encode: Encode, small: Any, sd15: Path, skip: int) -> None:
    pipe = sd15_pipeline(sd15)
    outcome = encode(TEXTS, small, skip)
    assert_equal(outcome, [sd15_reference(pipe, text, skip) for text in TEXTS])
    assert outcome.tensors[0].shape == (len(TEXTS), 77, 48)


@pytest.mark.parametrize("skip", [0, 1, 2, 4])
def test_sdxl_equals_the_pipeline(encode: Encode, large: Any, sdxl: Path, skip: int) -> None:
    pipe = sdxl_pipeline(sdxl)
    outcome = encode(TEXTS, large, skip, "SDXL")
    assert_equal(outcome, [sdxl_reference(pipe, text, skip) for text in TEXTS])
    assert outcome.tensors[0].shape == (len(TEXTS), 77, 48 + 80)
    assert outcome.tensors[1].shape == (len(TEXTS), 80)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_half_precision_equals_the_pipeline(
    encode: Encode, load: Any, sdxl: Path, precision: str, dtype: torch.dtype
) -> None:
    models = {
        "clip_l": load(sdxl / "text_encoder", "clip_l", precision),
        "clip_g": load(sdxl / "text_encoder_2", "clip_g", precision),
    }
    pipe = sdxl_pipeline(sdxl, dtype)
    outcome = encode(TEXTS[:2], models, 0, "SDXL")
    assert_equal(outcome, [sdxl_reference(pipe, text, 0) for text in TEXTS[:2]])


def test_an_encoder_that_asks_for_it_ignores_the_filling(
    encode: Encode, load: Any, repo: Path
) -> None:
    config = repo / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace("{", '{"use_attention_mask": true,', 1))
    outcome = encode(TEXTS[:1], {"clip_l": load(repo / "text_encoder", "clip_l")})
    cond, _ = sd15_pipeline(repo).encode_prompt(TEXTS[0], "cpu", 1, False)
    assert torch.equal(outcome.tensors[0], cond)


def test_families_do_not_mix(
    encode: Encode, small: Any, large: Any, sd15: Path, sdxl: Path
) -> None:
    one, two = sd15_pipeline(sd15), sdxl_pipeline(sdxl)
    for skip in (0, 2, 1, 0, 2):
        assert_equal(encode(TEXTS[:1], small, skip), [sd15_reference(one, TEXTS[0], skip)])
        assert_equal(encode(TEXTS[:1], large, skip, "SDXL"), [sdxl_reference(two, TEXTS[0], skip)])


def test_the_same_encoder_serves_two_families(encode: Encode, large: Any, sdxl: Path) -> None:
    """CLIP-L of SDXL, used alone: same model key, same tokens, but another family."""
    encode(TEXTS[:1], large, 0, "SDXL")
    outcome = encode(TEXTS[:1], large)
    assert not outcome.cache_hit
    assert outcome.tensors[0].shape == (1, 77, 48)


def test_a_text_does_not_depend_on_its_batch(encode: Encode, large: Any) -> None:
    together = encode(TEXTS, large, 1, "SDXL")
    for number, text in enumerate(TEXTS):
        alone = encode([text], large, 1, "SDXL")
        for whole, part in zip(together.tensors, alone.tensors, strict=True):
            assert torch.equal(whole[number : number + 1], part)


def test_a_hit_is_bit_equal_and_said(encode: Encode, small: Any, engine: HfEngine) -> None:
    first = encode(TEXTS, small)
    again = encode(TEXTS[::-1], small)
    part = encode([TEXTS[0], "new"], small)
    assert [first.cache_hit, again.cache_hit, part.cache_hit] == [False, True, False]
    for one, two in zip(first.tensors, again.tensors, strict=True):
        assert torch.equal(one, two.flip(0))
    assert engine.cache_counts().entries == 5
    assert engine.cache_counts().hits == 5


def test_the_same_text_twice_is_computed_once(encode: Encode, small: Any, engine: HfEngine) -> None:
    outcome = encode(["cat", "cat"], small)
    assert engine.cache_counts().misses == 1
    assert torch.equal(outcome.tensors[0][0], outcome.tensors[0][1])


def test_changing_a_result_does_not_change_the_cache(encode: Encode, small: Any) -> None:
    first = encode(["cat"], small)
    kept = [tensor.clone() for tensor in first.tensors]
    for tensor in first.tensors:
        tensor.zero_()
    for _ in range(2):
        hit = encode(["cat"], small)
        assert all(torch.equal(a, b) for a, b in zip(hit.tensors, kept, strict=True))
        for tensor in hit.tensors:
            tensor.zero_()


def test_unloading_forgets_results_and_gives_the_weights_back(
    encode: Encode, load: Any, sd15: Path, engine: HfEngine
) -> None:
    resident = load(sd15 / "text_encoder", "clip_l")
    encode(["cat"], {"clip_l": resident})
    engine.unload(resident)
    assert engine.cache_counts().entries == 0
    assert all(weight.is_meta for weight in resident.model.module.parameters())


def test_too_long_texts_are_told(encode: Encode, large: Any, recorder: Any) -> None:
    control = recorder()
    tokens = large["clip_l"].model.tokenizer.tokenizer(TEXTS[3]).input_ids
    encode(["cat", TEXTS[3]], large, 0, "SDXL", control)
    assert control.notes == [
        f"Text 2 is too long for {role}, which takes 77 tokens: "
        f"its last {len(tokens) - 77} tokens were left out."
        for role in ("clip_l", "clip_g")
    ]


def test_progress_is_told_per_batch(encode: Encode, small: Any, recorder: Any) -> None:
    control = recorder()
    encode(["a", "b", "c"], small, control=control)
    assert control.steps == [(2, 3), (3, 3)]


def test_cancel_takes_effect_between_batches_and_what_is_done_is_kept(
    encode: Encode, small: Any, recorder: Any, engine: HfEngine
) -> None:
    with pytest.raises(CanceledError):
        encode(["a", "b", "c"], small, control=recorder(cancel_at=1))
    assert engine.cache_counts().entries == 2


@pytest.mark.parametrize(("model_type", "most"), [("SD1.5", 5), ("SDXL", 4)])
def test_more_layers_than_there_are_cannot_be_skipped(
    encode: Encode, large: Any, model_type: str, most: int
) -> None:
    encode(["a"], large, most, model_type)
    with pytest.raises(BadRequestError, match=f"clip_skip is {most + 1}.* only {most} layers"):
        encode(["a"], large, most + 1, model_type)


def test_a_missing_encoder_is_named(encode: Encode, small: Any) -> None:
    with pytest.raises(BadRequestError, match="SDXL needs the text encoder 'clip_g'"):
        encode(["a"], small, 0, "SDXL")


def test_an_unknown_family_is_refused(encode: Encode, small: Any) -> None:
    with pytest.raises(BadRequestError, match="no model type 'SD9'"):
        encode(["a"], small, 0, "SD9")


def test_no_memory_for_a_text_is_said(encode: Encode, small: Any) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("no")

    small["clip_l"].model.module.forward = fail
    with pytest.raises(OutOfMemoryError, match="Encoding a text needs more memory than 'cpu'"):
        encode(["a"], small)

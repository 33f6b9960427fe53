"""Texts → conditioning, as the `encode_prompt` of diffusers' pipelines gives it.

SD1.5 takes the encoder's last state; or, with clip skip k, the state k layers earlier, through the
final norm. SDXL takes the state before the last layer of both encoders, or k layers before that,
without a norm, and joins them on the last dimension; its pooled output is the second encoder's.

Texts go through the encoders one at a time: in a batch they would round otherwise.
Source: diffusers 0.42, pipeline_stable_diffusion.py and pipeline_stable_diffusion_xl.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ....utils.model_types import ModelType
from ...errors import BadRequestError
from ...protocol.work import Conditioning, EncodeText
from ...protocol.worker_messages import ModelSpec
from ..conditioning_cache import CacheKey, ConditioningCache
from ..engine import Outcome, Resident, RunControl
from ..oom import attempt, free_cached_memory, out_of_memory
from .loading import load_module
from .tokenizers import TextTokenizer, Tokens, load_tokenizer


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder and what turns texts into its input."""

    module: Any
    tokenizer: TextTokenizer

    @property
    def layers(self) -> int:
        """Number of layers, of which clip skip leaves out some at the end."""
        return int(self.module.config.num_hidden_layers)


@dataclass(frozen=True, slots=True)
class Family:
    """How a model family makes conditioning from its encoders' states.

    Attributes:
        skipped: Layers that are left out even with clip skip 0.
        final_norm: Whether an earlier state goes through the encoder's last norm.
        pooled: The encoders' output that is the pooled one, of the last encoder.
        masked: Whether an encoder whose configuration asks for it ignores the filling.
    """

    skipped: int
    final_norm: bool
    pooled: str
    masked: bool


FAMILIES: Mapping[str, Family] = {
    "SD1.5": Family(skipped=0, final_norm=True, pooled="pooler_output", masked=True),
    "SDXL": Family(skipped=1, final_norm=False, pooled="text_embeds", masked=False),
}


def load_text_encoder(spec: ModelSpec, device: str) -> TextEncoder:
    """Load a text encoder and the tokenizer beside it.

    Raises:
        BadRequestError: A file is damaged, of another kind, or lacks weights.
        NotFoundError: A file is missing.
        OutOfMemoryError: The device has no room for it.
    """
    module = load_module(spec, device)
    config = module.config
    tokenizer = load_tokenizer(Path(spec.path), config.vocab_size, config.max_position_embeddings)
    return TextEncoder(module, tokenizer)


@dataclass(frozen=True, slots=True)
class _Encoding:
    """One call: which encoders, how far, and whom to tell."""

    encoders: Mapping[str, TextEncoder]  # in the order of the family's roles
    family: Family
    clip_skip: int
    control: RunControl

    def tokenize(self, number: int, text: str) -> list[Tokens]:
        found = []
        for role, encoder in self.encoders.items():
            tokens = encoder.tokenizer.encode(text)
            found.append(tokens)
            if tokens.left_out:
                self.control.note(
                    f"Text {number} is too long for {role}, which takes {encoder.tokenizer.length} tokens: "
                    f"its last {tokens.left_out} tokens were left out."
                )
        return found

    def run(self, tokens: list[Tokens]) -> tuple[torch.Tensor, ...]:
        """Return cond [1, tokens, width] and pooled [1, width], float32, on the CPU."""
        states = []
        outputs: Any = None
        for encoder, one in zip(self.encoders.values(), tokens, strict=True):
            outputs = self._run_encoder(encoder, one)
            states.append(self._pick_state(encoder, outputs).to("cpu", torch.float32))
        pooled = outputs[self.family.pooled].to("cpu", torch.float32)
        return torch.cat(states, dim=-1), pooled

    def _run_encoder(self, encoder: TextEncoder, tokens: Tokens) -> Any:
        module = encoder.module
        masked = self.family.masked and getattr(module.config, "use_attention_mask", False)
        mask = torch.tensor([tokens.mask], device=module.device) if masked else None
        ids = torch.tensor([tokens.ids], device=module.device)
        return module(ids, attention_mask=mask, output_hidden_states=True)

    def _pick_state(self, encoder: TextEncoder, outputs: Any) -> torch.Tensor:
        state: torch.Tensor
        if not self.clip_skip and not self.family.skipped:
            state = outputs.last_hidden_state
            return state
        state = outputs.hidden_states[-(self.family.skipped + self.clip_skip + 1)]
        if self.family.final_norm:
            inner = getattr(encoder.module, "text_model", encoder.module)  # none in transformers 5
            state = inner.final_layer_norm(state)
        return state


def encode_texts(
    work: EncodeText,
    model_type: ModelType,
    models: Mapping[str, Resident],
    cache: ConditioningCache,
    control: RunControl,
) -> Outcome:
    """Encode texts with all text encoders of a model family.

    Args:
        work: The texts, and the layers to leave out.
        model_type: The family; its roles must be in `models`.
        models: Role → a resident whose model is a `TextEncoder`.
        cache: Looked into first, text by text; new results are kept in it.
        control: Asked and told before and after every text.

    Returns:
        cond [N, tokens, width] and pooled [N, width], float32, on the CPU. A cache hit is when no text
        had to be computed.

    Raises:
        BadRequestError: An encoder is missing, or has fewer layers than shall be left out.
        OutOfMemoryError: The device has no room even for one text.
        CanceledError: `control.check()` said so.
    """
    encoding = _prepare(work, model_type, models, control)
    keys = tuple(models[role].spec.key for role in model_type.text_encoders)
    results = []
    computed = 0
    for done, text in enumerate(work.texts):
        control.check()
        tokens = encoding.tokenize(done + 1, text)
        ids = tuple(one.ids for one in tokens)
        key = CacheKey(keys, ids, (model_type.name, work.clip_skip))
        result = cache.get(key)
        if result is None:
            result = _run_or_say_why(encoding, tokens)
            cache.put(key, result)
            computed += 1
        results.append(result)
        control.progress(done + 1, len(work.texts))
    tensors = tuple(torch.cat(column) for column in zip(*results, strict=True))
    return Outcome(Conditioning(cond=0, pooled=1), tensors, cache_hit=computed == 0)


def _prepare(
    work: EncodeText, model_type: ModelType, models: Mapping[str, Resident], control: RunControl
) -> _Encoding:
    family = FAMILIES.get(model_type.name)
    if family is None:
        known = ", ".join(FAMILIES)
        raise BadRequestError(
            f"The hf engine cannot encode texts for '{model_type.name}'; it knows {known}."
        )
    missing = [role for role in model_type.text_encoders if role not in models]
    if missing:
        raise BadRequestError(
            f"{model_type.name} needs the text encoder '{missing[0]}', which was not given.",
            f"Choose a model for {missing[0]}.",
        )
    encoders = {role: models[role].model for role in model_type.text_encoders}
    most = min(encoder.layers for encoder in encoders.values()) - family.skipped
    if work.clip_skip > most:
        raise BadRequestError(
            f"clip_skip is {work.clip_skip}, but this model has only {most} layers that can be left out.",
            "Choose a smaller clip_skip.",
        )
    if len({encoder.tokenizer.length for encoder in encoders.values()}) > 1:
        raise BadRequestError(
            "The text encoders take different numbers of tokens, so their outputs cannot be joined.",
            "Choose encoders that belong together.",
        )
    return _Encoding(encoders, family, work.clip_skip, control)


def _run_or_say_why(encoding: _Encoding, tokens: list[Tokens]) -> tuple[torch.Tensor, ...]:
    result = attempt(partial(encoding.run, tokens))
    if result is None:
        device = str(next(iter(encoding.encoders.values())).module.device)
        free_cached_memory(device)
        raise out_of_memory("Encoding a text", device)
    return result

"""Texts → conditioning, as the `encode_prompt` of diffusers' pipelines gives it.

SD1.5 takes the encoder's last state; or, with clip skip k, the state k layers earlier, through the
final norm. SDXL takes the state before the last layer of both encoders, or k layers before that,
without a norm, and joins them on the last dimension; its pooled output is the second encoder's.

Texts go through the encoders in batches only where that changes no bit (text_batches.py).
Source: diffusers 0.42, pipeline_stable_diffusion.py and pipeline_stable_diffusion_xl.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ....utils.model_types import ModelType
from ...errors import BadRequestError, CanceledError, DaemonError
from ...protocol.work import Conditioning, EncodeText
from ...protocol.worker_messages import ModelSpec
from ..conditioning_cache import CacheKey, ConditioningCache
from ..engine import Outcome, Resident, RunControl
from ..oom import attempt, free_cached_memory, out_of_memory
from .loading import load_module
from .text_batches import BatchProofs, Result
from .tokenizers import TextTokenizer, Tokens, load_tokenizer

T = TypeVar("T")


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


def load_text_encoder(spec: ModelSpec, device: str, image: int | None = None) -> TextEncoder:
    """Load a text encoder and the tokenizer beside it.

    Raises:
        BadRequestError: A file is damaged, of another kind, or lacks weights.
        NotFoundError: A file is missing.
        OutOfMemoryError: The device has no room for it.
    """
    module = load_module(spec, device, image)
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

    def run(self, texts: Sequence[list[Tokens]]) -> list[Result]:
        """Return cond [1, tokens, width] and pooled [1, width] of each text, float32, on the CPU.

        `texts`: the tokens of each text, by encoder; all go through the encoders in one batch.
        """
        states = []
        outputs: Any = None
        for encoder, batch in zip(self.encoders.values(), zip(*texts, strict=True), strict=True):
            outputs = self._run_encoder(encoder, batch)
            states.append(self._pick_state(encoder, outputs).to("cpu", torch.float32))
        pooled = outputs[self.family.pooled].to("cpu", torch.float32)
        cond = torch.cat(states, dim=-1)
        return [(cond[n : n + 1].clone(), pooled[n : n + 1].clone()) for n in range(len(texts))]

    def _run_encoder(self, encoder: TextEncoder, batch: Sequence[Tokens]) -> Any:
        module = encoder.module
        masked = self.family.masked and getattr(module.config, "use_attention_mask", False)
        mask = torch.tensor([t.mask for t in batch], device=module.device) if masked else None
        ids = torch.tensor([t.ids for t in batch], device=module.device)
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


@dataclass(frozen=True, slots=True)
class TextCall:
    """One request to encode texts."""

    work: EncodeText
    model_type: ModelType
    models: Mapping[str, Resident]  # role → a resident whose model is a `TextEncoder`
    control: RunControl


@dataclass(slots=True)
class _Prepared:
    """A call whose texts have been turned into tokens, and looked up."""

    call: TextCall
    encoding: _Encoding
    keys: list[CacheKey]
    tokens: list[list[Tokens]]
    found: dict[CacheKey, Result]  # from the cache

    @property
    def cached(self) -> bool:
        return all(key in self.found for key in self.keys)


@dataclass(frozen=True, slots=True)
class Memory:
    """What lasts from call to call."""

    cache: ConditioningCache
    proofs: BatchProofs


def encode_calls(calls: Sequence[TextCall], memory: Memory) -> list[Outcome | DaemonError]:
    """Encode the texts of several requests with the same encoders and the same clip skip.

    Args:
        calls: The requests; all texts that no cache has go through the encoders together.
        memory: The cache, looked into first, text by text, and what is known of batches.

    Returns:
        For each call cond [N, tokens, width] and pooled [N, width], float32, on the CPU, or the error that
        this call ends with: BadRequestError (an encoder is missing, or has fewer layers than shall be left
        out), OutOfMemoryError (no room even for one text), CanceledError. A cache hit is when no text of
        the call had to be computed.
    """
    prepared = [_attempt_call(partial(_look_up, call, memory.cache)) for call in calls]
    ready = [one for one in prepared if isinstance(one, _Prepared)]
    computed: dict[CacheKey, Result] = {}
    try:
        computed = _compute(ready, memory)
    except DaemonError as error:
        return [error if isinstance(one, _Prepared) else one for one in prepared]
    return [
        _attempt_call(partial(_finish, one, computed)) if isinstance(one, _Prepared) else one
        for one in prepared
    ]


def _attempt_call(run: Callable[[], T]) -> T | DaemonError:
    """Return what `run` gives, or the error: one call of a group must not end the others."""
    try:
        return run()
    except DaemonError as error:
        return error


def _look_up(call: TextCall, cache: ConditioningCache) -> _Prepared:
    call.control.check()
    encoding = _prepare(call.work, call.model_type, call.models, call.control)
    models = tuple(call.models[role].spec.key for role in call.model_type.text_encoders)
    tokens = [encoding.tokenize(number, text) for number, text in enumerate(call.work.texts, 1)]
    options = (call.model_type.name, call.work.clip_skip)
    keys = [CacheKey(models, tuple(one.ids for one in text), options) for text in tokens]
    found = {key: result for key in dict.fromkeys(keys) if (result := cache.get(key)) is not None}
    return _Prepared(call, encoding, keys, tokens, found)


def _compute(ready: Sequence[_Prepared], memory: Memory) -> dict[CacheKey, Result]:
    """Compute each text that no cache had, once, however many calls want it."""
    missing = {
        key: tokens
        for one in ready
        for key, tokens in zip(one.keys, one.tokens, strict=True)
        if key not in one.found
    }
    if not missing:
        return {}
    computed = attempt(lambda: _compute_in_batches(ready, missing, memory))
    if computed is None:
        device = str(next(iter(ready[0].encoding.encoders.values())).module.device)
        free_cached_memory(device)
        raise out_of_memory("Encoding a text", device)
    return computed


def _compute_in_batches(
    ready: Sequence[_Prepared], missing: Mapping[CacheKey, list[Tokens]], memory: Memory
) -> dict[CacheKey, Result]:
    computed: dict[CacheKey, Result] = {}
    keys, who = list(missing), next(iter(missing)).models
    for batch in memory.proofs.run(who, list(missing.values()), ready[0].encoding.run):
        for key, result in zip(keys[len(computed) :], batch, strict=False):
            computed[key] = result
            memory.cache.put(key, result)
        for one in ready:
            done = sum(key in one.found or key in computed for key in one.keys)
            one.call.control.progress(done, len(one.keys))
        if len(computed) < len(keys):
            _check_any_wanted(ready)
    return computed


def _check_any_wanted(ready: Sequence[_Prepared]) -> None:
    """Raise CanceledError when every call of the group has been given up."""
    ended = [_attempt_call(one.call.control.check) for one in ready]
    if all(isinstance(error, DaemonError) for error in ended):
        raise CanceledError("The request was cancelled.")


def _finish(one: _Prepared, computed: Mapping[CacheKey, Result]) -> Outcome:
    results = [one.found[key] if key in one.found else computed[key] for key in one.keys]
    tensors = tuple(torch.cat(column) for column in zip(*results, strict=True))
    return Outcome(Conditioning(cond=0, pooled=1), tensors, cache_hit=one.cached)


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

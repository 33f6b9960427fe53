"""The engine itself: what it loads for each role, and who does each kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import diffusers
import torch
import transformers

from ....utils.errors import InputError
from ....utils.model_types import VAE_ROLE, find_model_type
from ...errors import BadRequestError, DaemonError
from ...protocol.work import AnyWork, DecodeLatent, EncodeImage, EncodeText
from ...protocol.worker_messages import ModelSpec
from ..conditioning_cache import ConditioningCache
from ..engine import CacheCounts, Call, Engine, EngineSettings, Outcome, Resident, RunControl
from ..oom import free_cached_memory
from .places import move_module
from .text_batches import BatchProofs
from .text_encoding import Memory, TextCall, encode_calls, load_text_encoder
from .vae import Vae, decode_latent, encode_image, load_vae


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of `HfEngine.run`."""

    model_type: str
    models: Mapping[str, Resident]
    tensors: Sequence[torch.Tensor]
    control: RunControl

    def tensor(self, index: int) -> torch.Tensor:
        if index >= len(self.tensors):
            raise BadRequestError(f"The request names tensor {index}, but has {len(self.tensors)}.")
        return self.tensors[index]

    def vae(self) -> Vae:
        if VAE_ROLE not in self.models:
            raise BadRequestError("This work needs a VAE, which was not given.", "Choose a VAE.")
        vae: Vae = self.models[VAE_ROLE].model
        return vae


class HfEngine(Engine):
    """Runs model folders in diffusers' layout through transformers and diffusers."""

    name = "hf"

    def __init__(self, settings: EngineSettings) -> None:
        self._device = settings.device
        cache = ConditioningCache(settings.conditioning_cache_bytes)
        self._memory = Memory(cache, BatchProofs())
        self._runners: dict[type[Any], Callable[[Any, _Call], Outcome]] = {
            EncodeText: self._encode_text,
            DecodeLatent: self._decode_latent,
            EncodeImage: self._encode_image,
        }

    def versions(self) -> dict[str, str]:
        """Return the versions of torch, transformers and diffusers."""
        return {
            "torch": str(torch.__version__),  # a class of its own, which no message takes
            "transformers": transformers.__version__,
            "diffusers": diffusers.__version__,
        }

    def load(self, spec: ModelSpec, image: int | None = None) -> Resident:
        """Load the text encoder or VAE of a model folder."""
        load = load_vae if spec.role == VAE_ROLE else load_text_encoder
        try:
            model = load(spec, self._device, image)
        except DaemonError:
            free_cached_memory(self._device)  # of what was read before it failed
            raise
        weights = [*model.module.parameters(), *model.module.buffers()]
        return Resident(spec, model, sum(weight.nbytes for weight in weights))

    def run(
        self,
        work: AnyWork,
        model_type: str,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        control: RunControl,
    ) -> Outcome:
        """Do the work; its tensors come on the CPU."""
        runner = self._runners.get(type(work))
        if runner is None:
            raise BadRequestError(f"The hf engine cannot do '{type(work).__name__}'.")
        with torch.no_grad():
            return runner(work, _Call(model_type, models, tensors, control))

    def move(self, resident: Resident, place: str) -> None:
        """Move the weights from the device to RAM or back; cached results of it stay."""
        if place == "ram":
            move_module(resident.model.module, "Putting a model to sleep", "cpu")
        else:
            move_module(resident.model.module, "Waking a model", self._device)

    def rest(self) -> None:
        """Give back memory that is only kept for the next work."""
        free_cached_memory(self._device)

    def unload(self, resident: Resident) -> None:
        """Drop the weights, even while somebody still holds the resident."""
        resident.model.module.to("meta")
        self._memory.cache.forget(resident.spec.key)
        self._memory.proofs.forget(resident.spec.key)
        free_cached_memory(self._device)

    def cache_counts(self) -> CacheCounts:
        """Return the state of the conditioning cache."""
        return self._memory.cache.counts()

    def joins(self, work: AnyWork) -> bool:
        """Texts of several calls go through the encoders together."""
        return isinstance(work, EncodeText)

    def run_group(self, calls: Sequence[Call]) -> Sequence[Outcome | DaemonError]:
        """Encode the texts of all calls together."""
        with torch.no_grad():
            return encode_calls([_text_call(call) for call in calls], self._memory)

    def _encode_text(self, work: EncodeText, call: _Call) -> Outcome:
        one = Call(work, call.model_type, call.models, call.tensors, call.control)
        outcome = encode_calls([_text_call(one)], self._memory)[0]
        if isinstance(outcome, DaemonError):
            raise outcome
        return outcome

    def _decode_latent(self, work: DecodeLatent, call: _Call) -> Outcome:
        return decode_latent(call.vae(), call.tensor(work.latent), work, call.control)

    def _encode_image(self, work: EncodeImage, call: _Call) -> Outcome:
        return encode_image(call.vae(), call.tensor(work.image), work, call.control)


def _text_call(call: Call) -> TextCall:
    try:
        model_type = find_model_type(call.model_type)
    except InputError as error:
        raise BadRequestError(error.message, error.hint) from error
    return TextCall(cast(EncodeText, call.work), model_type, call.models, call.control)

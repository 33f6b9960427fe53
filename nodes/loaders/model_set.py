"""Carry out a plan: load what it names, from wherever the source has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.utils

from ...utils.errors import InputError
from ...utils.log import get_logger
from ...utils.routing.choice import AUTO, Choice, ClipPart, Plan
from ...utils.weights.ip_adapter import split_ip_adapter
from ...utils.weights.shelf import ModelFile
from ..model_source import DaemonMode, ModelSource
from .precision import PreciseModels

log = get_logger("nodes")
CHOSEN = ("model_source", "model_name", "vae_name", "ip_adapter_name")


@dataclass(frozen=True, slots=True)
class ModelSet:
    """What the router hands on; None where nothing is linked."""

    model: Any = None
    clip: Any = None
    vae: Any = None
    llm: dict[str, Any] | None = None
    clip_vision: Any = None
    ip_adapter: dict[str, Any] | None = None
    model_name: str = ""
    status: str = ""


def read_choice(
    values: Mapping[str, Any], model_type: Mapping[str, Any] | None, wanted: frozenset[str]
) -> Choice:
    """Return the router's inputs as a choice.

    Raises:
        InputError: The model type is none that there is; ComfyUI itself does not check that.
    """
    if model_type is None:
        raise InputError(
            "model_type is missing or none that the router knows.",
            f"Choose '{AUTO}' or one of the types in the list.",
        )
    slots = {name: value for name, value in model_type.items() if isinstance(value, str)}
    name = slots.pop("model_type")
    return Choice(
        model_type=name,
        clip_type=slots.pop("clip_type", "").upper(),
        slots=slots,
        wanted=wanted,
        **{name: value for name, value in values.items() if name in CHOSEN},
    )


def load_model_set(
    plan: Plan, mode: DaemonMode, source: ModelSource, models: PreciseModels
) -> ModelSet:
    """Load a plan. The daemon starts, where it has to, while the diffusion model is converted and loaded."""
    if plan.clip or plan.vae or plan.clip_vision:
        source.prepare()
    model = _opened(plan.model, models.open)
    places: list[str] = []

    def opened(part: Any, load: Callable[[Any], Any]) -> Any:
        model = _opened(part, load)
        if part is not None:
            places.append(source.label)
        return model

    clip = opened(plan.clip, source.open_clip)
    vae = opened(plan.vae, source.open_vae)
    vision = opened(plan.clip_vision, source.open_clip_vision)
    llm = _language_model(plan, mode)
    notes = [*plan.notes, *models.notes, *source.notes]
    for note in plan.notes:
        log.info("[Luna] %s", note)
    return ModelSet(
        model=model,
        clip=clip,
        vae=vae,
        llm=llm,
        clip_vision=_mmproj(plan, mode) if plan.mmproj else vision,
        ip_adapter=_opened(plan.ip_adapter, _open_ip_adapter),
        model_name=plan.model_name,
        status=_status(plan, places, notes),
    )


def _opened(part: Any, load: Callable[[Any], Any]) -> Any:
    return None if part is None else load(part)


def _open_ip_adapter(file: ModelFile) -> dict[str, Any]:
    weights = comfy.utils.load_torch_file(str(file.path), safe_load=True)
    return split_ip_adapter(weights, file.path)


def _language_model(plan: Plan, mode: DaemonMode) -> dict[str, Any] | None:
    if plan.llm is None:
        return None
    return {
        "type": "qwen3_vl" if plan.mmproj else "qwen3",
        "model_path": str(plan.llm.path),
        "model_name": plan.llm.name,
        "mmproj_path": str(plan.mmproj or ""),
        "use_daemon": mode is not DaemonMode.FORCE_LOCAL,
        "loaded": False,
    }


def _mmproj(plan: Plan, mode: DaemonMode) -> dict[str, Any]:
    return {
        "type": "qwen3_mmproj",
        "mmproj_path": str(plan.mmproj or ""),
        "model_path": str(plan.llm.path) if plan.llm else "",
        "use_daemon": mode is not DaemonMode.FORCE_LOCAL,
    }


def _status(plan: Plan, places: list[str], notes: list[str]) -> str:
    where = " and ".join(dict.fromkeys(places)) or "nothing shared"
    parts = [f"[{plan.model_type}] {where}"]
    if plan.model:
        parts.append(f"MODEL: {plan.model.name}")
    if plan.clip:
        parts.append(f"CLIP: {_encoders(plan.clip)}")
    if plan.vae:
        parts.append(f"VAE: {'from checkpoint' if plan.vae.checkpoint else plan.vae.file.name}")
    if plan.clip_vision:
        parts.append(f"VISION: {plan.clip_vision.name}")
    if plan.llm:
        parts.append(f"LLM: {plan.llm.name}")
    if plan.ip_adapter:
        parts.append(f"IP-Adapter: {plan.ip_adapter.name}")
    return "\n".join([" | ".join(parts), *notes])


def _encoders(part: ClipPart) -> str:
    if part.checkpoint:
        return "from checkpoint"
    number = len(part.files)
    return f"{number} encoder{'s' if number > 1 else ''}"

"""Carry out the plan for a second model: load it, take over what is shared, and put the first aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...utils.errors import InputError
from ...utils.model_types import find_model_type
from ...utils.routing.second_model import SecondPlan
from ..local_models import open_model
from ..model_source import DaemonMode, ModelSource
from .companions import family_name_of
from .memory import make_way, unload
from .parked_models import park
from .shared_encoders import family_of, not_carried, open_encoders, roles_of

AUTO = "auto"
_MB = 1e6


@dataclass(frozen=True, slots=True)
class First:
    """What is there already: the linked objects of the first model, or None."""

    model: Any = None
    clip: Any = None
    vae: Any = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of its text encoders."""
        return roles_of(self.clip) if self.clip is not None else ()

    def family(self, chosen: str) -> str:
        """Return its family, empty where that cannot be told.

        Raises:
            InputError: Another one was chosen than the text encoders are of.
        """
        found = family_of(self.clip) if self.clip is not None else ""
        found = found or (family_name_of(self.model) if self.model is not None else "")
        if chosen == AUTO:
            return found
        needs = find_model_type(chosen).text_encoders
        if self.clip is not None and set(needs) != set(self.roles):
            raise InputError(
                f"primary_type is {chosen}, but the text encoders of primary_clip are those of "
                f"{found or 'another family'}.",
                "Set primary_type to auto, or link other text encoders.",
            )
        return chosen


@dataclass(frozen=True, slots=True)
class Second:
    """What the node hands on; None where nothing is linked."""

    model: Any
    clip: Any
    vae: Any
    status: str
    first_id: str


def load_second(
    plan: SecondPlan, first: First, source: ModelSource, mode: DaemonMode, put_aside: bool
) -> Second:
    """Load a second model; the daemon starts, where it has to, while the model itself is loaded."""
    if plan.plan.vae or plan.encoders:
        source.prepare()
    aside, first_id = _put_aside(first.model) if put_aside and first.model is not None else ("", "")
    told = [f"[{plan.plan.model_type}]"]
    model = clip = None
    if plan.plan.model is not None:
        model = open_model(plan.plan.model)
        told.append(f"MODEL: {plan.plan.model.name}")
        if first_id:
            make_way(model, first.model)
    notes = [aside] if aside else []
    if plan.encoders is not None:
        clip, about = open_encoders(plan.encoders, first.clip, source, mode)
        told.append(about)
        if plan.encoders.shared and clip is not first.clip:
            notes.append(not_carried(first.clip))
    vae = first.vae if plan.keeps_vae else None
    if plan.keeps_vae:
        told.append("VAE: the primary's")
    elif plan.plan.vae is not None:
        vae = source.open_vae(plan.plan.vae)
        name = "from checkpoint" if plan.plan.vae.checkpoint else plan.plan.vae.file.name
        told.append(f"VAE: {name} ({source.label})")
    lines = [" | ".join(told), *notes, *plan.notes, *source.notes]
    return Second(model, clip, vae, "\n".join(filter(None, lines)), first_id)


def _put_aside(model: Any) -> tuple[str, str]:
    freed = unload(model)
    name = park(model)
    device = model.load_device
    now = f"{freed / _MB:.0f} MB of it were freed on {device}" if freed else f"not on {device} now"
    return (
        f"Put aside: '{name}', {now}; it leaves {device} again whenever the second model is sampled with.",
        name,
    )

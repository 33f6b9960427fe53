"""A second model beside the first: what it loads, and what it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError, ModelFileError
from ..model_types import MODEL_TYPES, ModelType, find_model_type
from ..weights.shelf import ModelFile, Shelf
from .choice import ENCODER_LIST, FROM_CHECKPOINT, NOTHING, OTHER, VAE_LIST, Choice, Plan
from .encoder_sharing import SharedEncoders, share_encoders
from .fingerprint import fingerprint, stamp
from .planner import make_plan

# Families whose latents one VAE decodes.
_VAE_OF_FAMILY = {"SD1.5": "sd1", "SDXL": "sdxl", "SD3": "sd3", "Flux": "flux", "Z-IMAGE": "flux"}


@dataclass(frozen=True, slots=True)
class SecondChoice:
    """What a person chose.

    Attributes:
        model_source, model_name, model_type: As in Choice.
        additional_clip: A file of a text encoder, or "None".
        secondary_vae: A file, "from checkpoint", or "None": what is there, in the order of `_vae_choice`.
        wanted: Outputs that something is linked to.
        has: Roles of the first model's text encoders; empty when none are linked.
        has_vae: Is the first model's VAE linked?
        first_family: The first model's family; empty when it is not known.
    """

    model_source: str
    model_name: str
    model_type: str
    additional_clip: str = NOTHING
    secondary_vae: str = NOTHING
    wanted: frozenset[str] = frozenset()
    has: Sequence[str] = ()
    has_vae: bool = False
    first_family: str = ""


@dataclass(frozen=True, slots=True)
class SecondPlan:
    """What to load, and what is taken over from the first model.

    Attributes:
        plan: The model and, unless it is taken over, the VAE.
        model: The file, also when nothing is linked to the model.
        encoders: The text encoders; None when nothing is linked to them.
        keeps_vae: Is the first model's VAE taken over?
    """

    plan: Plan
    model: ModelFile
    encoders: SharedEncoders | None = None
    keeps_vae: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know."""
        return self.plan.notes + (self.encoders.notes if self.encoders else ())


def make_second_plan(choice: SecondChoice, shelf: Shelf) -> SecondPlan:
    """Return what to load for a second model.

    Raises:
        InputError: Something is missing or does not fit; the message says what, and what would.
    """
    router = Choice(choice.model_source, choice.model_name, choice.model_type)
    found = make_plan(_wanting(router, {"model"}), shelf)
    model, family = found.model, find_model_type(found.model_type)
    assert model is not None, "a plan without a model is an error"
    parts = choice.wanted & {"model", "vae"}
    keeps_vae = "vae" in parts and _keeps_vae(choice, model, family)
    if keeps_vae:
        parts -= {"vae"}
    vae_name = FROM_CHECKPOINT if choice.secondary_vae == NOTHING else choice.secondary_vae
    plan = make_plan(_wanting(router, parts, vae_name), shelf)
    encoders = _encoders(choice, model, family, shelf) if "clip" in choice.wanted else None
    return SecondPlan(plan, model, encoders, keeps_vae)


def second_fingerprint(choice: SecondChoice, shelf: Shelf) -> list[str]:
    """Return texts that change when a second model has to be loaded again.

    What is linked is not known when ComfyUI asks for them; it notices changes there itself.
    """
    router = Choice(choice.model_source, choice.model_name, choice.model_type)
    chosen = ((ENCODER_LIST, choice.additional_clip), (VAE_LIST, choice.secondary_vae))
    texts = [*sorted(choice.wanted), *fingerprint(_wanting(router, {"model"}), shelf)]
    for folder, name in chosen:
        try:
            file = shelf.find(folder, name)
        except ModelFileError as error:
            texts.append(str(error))  # it is raised when the node runs
        else:
            texts.append(stamp(file) if file else name)
    return [*texts, *sorted(shelf.names_in(ENCODER_LIST))]


def _wanting(
    choice: Choice, parts: set[str] | frozenset[str], vae: str = FROM_CHECKPOINT
) -> Choice:
    return Choice(
        choice.model_source,
        choice.model_name,
        choice.model_type,
        vae_name=vae,
        wanted=frozenset(parts),
    )


def _keeps_vae(choice: SecondChoice, model: ModelFile, family: ModelType) -> bool:
    """Without a choice: the checkpoint's own VAE, else the first model's where it fits, else a file."""
    if choice.secondary_vae != NOTHING or model.contents.has_vae or not choice.has_vae:
        return False
    ours = _VAE_OF_FAMILY.get(family.family)
    return ours is not None and ours == _VAE_OF_FAMILY.get(choice.first_family)


def _encoders(
    choice: SecondChoice, model: ModelFile, family: ModelType, shelf: Shelf
) -> SharedEncoders:
    chosen = None
    if choice.additional_clip != NOTHING:
        chosen = shelf.find(ENCODER_LIST, choice.additional_clip)
        if chosen is None:
            raise InputError(
                f"additional_clip: there is no file '{choice.additional_clip}' in models/{ENCODER_LIST}.",
                "Choose another, or None.",
            )
    return share_encoders(family, choice.has, chosen, model, shelf)


def names_of_types() -> list[str]:
    """Return the families that a second model may have: those whose text encoders are known."""
    return [kind.name for kind in MODEL_TYPES.values() if kind.name != OTHER and not kind.vision]

"""Which text encoders a second model shares with the first, by set algebra, and where the others are.

Encoders are sets of roles: what both families need is shared, and what only the second needs comes from the
file that was chosen for it, from the second model's own checkpoint, or from the one file that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..model_types import KINDS_OF_ROLE, NAME_OF_ROLE, ModelType
from ..weights.contents import FileKind
from ..weights.shelf import ModelFile, Shelf
from .choice import ClipPart
from .fitting import files_for, offer

_WHOLE = "all"  # of a checkpoint's, where the family's text encoders are not known


@dataclass(frozen=True, slots=True)
class Encoder:
    """Where one text encoder is: a file of its own, or inside a checkpoint."""

    file: ModelFile
    inside: bool = False


@dataclass(frozen=True, slots=True)
class SharedEncoders:
    """The second model's text encoders.

    Attributes:
        family: Its family; the roles are in its order.
        shared: Roles that the first model's text encoders take.
        added: The other roles, and where their encoders are.
        notes: What the person should know, in sentences.
    """

    family: ModelType
    shared: tuple[str, ...]
    added: Mapping[str, Encoder]
    notes: tuple[str, ...] = ()

    def is_all_of(self, roles: Sequence[str], family: str) -> bool:
        """Do the first model's text encoders do as they are?"""
        return not self.added and set(self.shared) == set(roles) and family == self.family.family

    def part(self, places: Mapping[str, Encoder]) -> ClipPart:
        """Return what to load, where `places` says where the encoders are that are shared."""
        if _WHOLE in self.added:
            return ClipPart((self.added[_WHOLE].file,), "", checkpoint=True)
        every = {**places, **self.added}
        encoders = [(role, every[role]) for role in self.family.text_encoders]
        first = encoders[0][1]
        if not self.shared and all(one == first and one.inside for _, one in encoders):
            return ClipPart((first.file,), self.family.clip_type, checkpoint=True)
        inside = tuple(role if one.inside else "" for role, one in encoders)
        files = tuple(one.file for _, one in encoders)
        return ClipPart(files, self.family.clip_type, inside=inside if any(inside) else ())


def share_encoders(
    family: ModelType,
    has: Sequence[str],
    chosen: ModelFile | None,
    model: ModelFile,
    shelf: Shelf,
) -> SharedEncoders:
    """Find the text encoders of a second model.

    Args:
        family: Its family.
        has: Roles of the text encoders that the first model has; empty: nothing can be shared.
        chosen: The file of an encoder that a person chose for it, which goes before one that is shared.
        model: The second model's file.
        shelf: The files of this machine.

    Raises:
        InputError: An encoder is missing or does not fit; the message lists all of it, and what would.
    """
    if not family.text_encoders:
        if model.contents.baked_encoders and chosen is None:
            return SharedEncoders(family, (), {_WHOLE: Encoder(model, inside=True)})
        raise InputError(
            f"Which text encoders '{model.name}' takes is not known: it is {model.contents}.",
            "Choose a model_type, or unlink the output clip.",
        )
    problems: list[str] = []
    notes: list[str] = []
    role_of_chosen = _role_of(chosen, family, has, problems) if chosen else ""
    shared: list[str] = []
    added: dict[str, Encoder] = {}
    for role in family.text_encoders:
        if chosen is not None and role == role_of_chosen:
            added[role] = Encoder(chosen)
        elif role in has:
            shared.append(role)
        elif set(KINDS_OF_ROLE[role]) & set(model.contents.baked_encoders):
            added[role] = Encoder(model, inside=True)
        else:
            fits = files_for(shelf, role, family.family)
            if len(fits) == 1:
                added[role] = Encoder(fits[0])
                notes.append(f"'{fits[0].name}' was taken as {NAME_OF_ROLE[role]}.")
            else:
                problems.append(_missing(role, family, fits))
    if problems:
        listed = "".join(f"\n• {problem}" for problem in problems)
        raise InputError(f"The text encoders of the second model cannot be put together:{listed}")
    return SharedEncoders(family, tuple(shared), added, tuple(notes))


def places_of(files: Sequence[ModelFile], inside: Sequence[str]) -> dict[str, Encoder]:
    """Return role → place of the encoders in files whose contents are known.

    Args:
        files: Files of text encoders, or checkpoints.
        inside: For each file the role that is taken out of it, or ""; may be empty.
    """
    found: dict[str, Encoder] = {}
    for file, taken in zip(files, [*inside] or [""] * len(files), strict=True):
        kinds = file.contents.baked_encoders or (file.contents.encoder,)
        is_checkpoint = file.contents.kind is FileKind.CHECKPOINT
        for role, of_role in KINDS_OF_ROLE.items():
            if (not taken or role == taken) and set(of_role) & set(kinds):
                found[role] = Encoder(file, inside=is_checkpoint)
    return found


def _role_of(file: ModelFile, family: ModelType, has: Sequence[str], problems: list[str]) -> str:
    """Return the role that a chosen file takes; a kind that cannot be told takes the one that is missing."""
    contents = file.contents
    if contents.kind is FileKind.TEXT_ENCODER:
        fits = [role for role in family.text_encoders if contents.encoder in KINDS_OF_ROLE[role]]
    elif contents.kind is FileKind.UNKNOWN:
        fits = [role for role in family.text_encoders if role not in has]
        fits = fits if len(fits) == 1 else []
    else:
        fits = []
    if fits:
        return fits[0]
    names = ", ".join(NAME_OF_ROLE[role] for role in family.text_encoders)
    problems.append(
        f"additional_clip: '{file.name}' is {contents}, and {family.name} takes {names}. Choose one "
        "of these, or None."
    )
    return ""


def _missing(role: str, family: ModelType, fits: Sequence[ModelFile]) -> str:
    why = "several files fit" if fits else "nothing fits"
    remedy = " Choose one with additional_clip." if fits else ""
    return (
        f"{NAME_OF_ROLE[role]}: {family.name} needs it, the first model does not have it, and {why}. "
        f"{offer(fits, role)}{remedy}"
    )

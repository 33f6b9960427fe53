"""From a choice to a plan: everything that is missing is found, and said at once, before anything loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import InputError, ModelFileError
from ..model_types import (
    KINDS_OF_ROLE,
    MODEL_TYPES,
    NAME_OF_ROLE,
    VAE_ROLE,
    VISION_ROLE,
    ModelType,
    find_model_type,
)
from ..weights.contents import UNKNOWN, Contents, FileKind
from ..weights.shelf import ModelFile, Shelf
from .choice import (
    AUTO,
    ENCODER_LIST,
    FROM_CHECKPOINT,
    IP_ADAPTER_LIST,
    LISTS_OF_SOURCE,
    NOTHING,
    OTHER,
    OTHER_SLOTS,
    VAE_LIST,
    VISION_LIST,
    Choice,
    ClipPart,
    Plan,
    VaePart,
)
from .fitting import LATENT_CHANNELS, files_for, is_vision, offer, quoted

_ROLE_OF_LIST = {VAE_LIST: VAE_ROLE, VISION_LIST: VISION_ROLE}  # text encoders have slots for roles
_MODELS = (FileKind.CHECKPOINT, FileKind.DIFFUSION_MODEL, FileKind.UNKNOWN)


def make_plan(choice: Choice, shelf: Shelf) -> Plan:
    """Return what to load.

    Raises:
        InputError: Something is missing or does not fit; the message lists all of it, and what would.
    """
    planner = _Planner(choice, shelf)
    plan = planner.plan()
    if planner.problems:
        listed = "".join(f"\n• {problem}" for problem in dict.fromkeys(planner.problems))
        raise InputError(f"The models that are chosen cannot be loaded:{listed}")
    return plan


class _Planner:
    """Goes through the outputs that are wanted and collects problems and notes."""

    def __init__(self, choice: Choice, shelf: Shelf) -> None:
        self.choice = choice
        self.shelf = shelf
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.model: ModelFile | None = None
        self.kind: ModelType = MODEL_TYPES[OTHER]

    @property
    def contents(self) -> Contents:
        return self.model.contents if self.model else UNKNOWN

    @property
    def is_auto(self) -> bool:
        return self.choice.model_type == AUTO

    def plan(self) -> Plan:
        self.model = self._model()
        self.kind = self._model_type()
        wanted = self.choice.wanted
        plan = Plan(
            model_type=self.kind.name,
            model_name=self.model.name if self.model else "",
            model=self.model if "model" in wanted else None,
            clip=self._clip() if "clip" in wanted else None,
            vae=self._vae() if "vae" in wanted else None,
            ip_adapter=self._ip_adapter() if "ip_adapter" in wanted else None,
        )
        if self.kind.name == "Z-IMAGE":
            plan = self._with_language_model(plan)
        elif self.model is not None or not self.is_auto:  # else nobody knows what there could be
            if "llm" in wanted:
                self.problems.append(
                    f"llm: {self.kind.name} has no language model. Only Z-IMAGE does: unlink the output."
                )
            if "clip_vision" in wanted:
                plan = replace(plan, clip_vision=self._vision())
        return replace(plan, notes=tuple(self.notes))

    def _model(self) -> ModelFile | None:
        name = self.choice.model_name
        if name == NOTHING:
            needs = {"model"} | ({"clip"} if self._from_checkpoint() else set())
            needs |= {"vae"} if self.choice.vae_name == FROM_CHECKPOINT else set()
            needs |= {"llm", "clip_vision"} if self.is_auto else set()
            if needs & self.choice.wanted:
                self.problems.append("model_name: nothing is chosen. Choose a model.")
            return None
        chosen = LISTS_OF_SOURCE[self.choice.model_source]
        before = len(self.problems)
        others = [name for lists in LISTS_OF_SOURCE.values() for name in lists]
        for place in dict.fromkeys((*chosen, *others)):
            file = self._find("model_name", place, name)
            if file is None:
                continue
            if place not in chosen:
                self.notes.append(f"'{name}' was found in {place}, not {self.choice.model_source}.")
            if file.contents.kind not in _MODELS:
                self.problems.append(
                    f"model_name: '{name}' is {file.contents}, not a diffusion model. Choose another."
                )
                return None  # nothing can be said of what it lacks
            return file
        if len(self.problems) == before:  # else it is there, and damaged
            self.problems.append(f"model_name: there is no '{name}' in {quoted(LISTS_OF_SOURCE)}.")
        return None

    def _find(self, slot: str, place: str, name: str) -> ModelFile | None:
        try:
            return self.shelf.find(place, name)
        except ModelFileError as error:
            self.problems.append(f"{slot}: {error}")
            return None

    def _model_type(self) -> ModelType:
        family = self.contents.family
        if not self.is_auto:
            kind = find_model_type(self.choice.model_type)
            if kind.family and family and family != kind.family and self.model:
                self.problems.append(
                    f"model_type: '{self.model.name}' is {self.contents}, but {kind.name} is chosen. "
                    f"Choose '{_type_of(family).name}' or Auto."
                )
            return kind
        kind = _type_of(family)
        if self.model is not None:
            self.notes.append(_found(self.model))
        return kind

    def _from_checkpoint(self) -> bool:
        return self.is_auto or FROM_CHECKPOINT in self.choice.slots.values()

    # Text encoders

    def _clip(self) -> ClipPart | None:
        if self.is_auto:
            return self._clip_by_itself()
        roles = self.kind.text_encoders or OTHER_SLOTS
        given = {role: self.choice.slots.get(role, NOTHING) for role in roles}
        if self.kind.name == OTHER:
            given = {slot: name for slot, name in given.items() if name != NOTHING}
            if not given:
                self.problems.append("clip_1: nothing is chosen. Choose a text encoder.")
        baked = [role for role, name in given.items() if name == FROM_CHECKPOINT]
        if baked and len(baked) == len(given):
            return self._baked_clip(baked)
        if baked:
            others = [role for role in given if role not in baked]
            self.problems.append(
                f"{', '.join(baked)}: '{FROM_CHECKPOINT}' cannot be mixed with files "
                f"({', '.join(others)}): ComfyUI takes all text encoders from the checkpoint or none."
            )
            return None
        files = [self._encoder(role, name) for role, name in given.items()]
        found = tuple(file for file in files if file is not None)
        return ClipPart(found, self.kind.clip_type or self.choice.clip_type)

    def _baked_clip(self, roles: list[str]) -> ClipPart | None:
        if self.model is None:
            return None  # which is said already
        if self._lacks(roles):
            for role in self._lacks(roles):
                name = NAME_OF_ROLE.get(role, "text encoder")
                self.problems.append(
                    f"{role}: '{self.model.name}' is {self.contents} without a {name}. "
                    + self._offer(role)
                )
            return None
        return self._whole_checkpoint(self.model)

    def _whole_checkpoint(self, model: ModelFile) -> ClipPart:
        """Take all text encoders that the checkpoint has."""
        for role in self._missing(list(self.kind.spare)):
            self.notes.append(
                f"'{model.name}' has no {NAME_OF_ROLE[role]} inside: {self.kind.name} does without it."
            )
        return ClipPart((model,), self.kind.clip_type, checkpoint=True)

    def _lacks(self, roles: list[str]) -> list[str]:
        """Return the roles that the checkpoint certainly has no encoder for, and ComfyUI needs one."""
        if self.kind.name == OTHER:
            known = self.contents.kind is not FileKind.UNKNOWN
            return roles if known and not self.contents.baked_encoders else []
        missing = self._missing(roles)
        if set(missing) <= set(self.kind.spare) < set(roles):
            return []
        return missing

    def _missing(self, roles: list[str]) -> list[str]:
        if self.contents.kind is FileKind.UNKNOWN:
            return []  # ComfyUI says what is wrong when it has opened the file
        baked = set(self.contents.baked_encoders)
        return [role for role in roles if not set(KINDS_OF_ROLE[role]) & baked]

    def _clip_by_itself(self) -> ClipPart | None:
        """Auto: what the checkpoint has, else the one file for each role that fits."""
        if self.model is None:
            return None
        roles = list(self.kind.text_encoders)
        if self.contents.kind is FileKind.UNKNOWN or self.kind.name == OTHER:
            if self.choice.model_source == "checkpoints" and not self._lacks(["clip"]):
                return ClipPart((self.model,), "", checkpoint=True)
            self.problems.append(
                f"model_type: Auto cannot tell which text encoders '{self.model.name}' needs: it is "
                f"{self.contents}. Choose a model type and its encoders."
            )
            return None
        if not self._lacks(roles):
            return self._whole_checkpoint(self.model)
        files = [self._only_one(role) for role in roles]
        return ClipPart(tuple(filter(None, files)), self.kind.clip_type)

    def _only_one(self, role: str) -> ModelFile | None:
        fits = files_for(self.shelf, role, self.kind.family)
        if len(fits) == 1:
            self.notes.append(f"Auto took '{fits[0].name}' as {NAME_OF_ROLE[role]}.")
            return fits[0]
        why = "several files fit" if fits else "nothing fits"
        slot = "vae_name" if role == VAE_ROLE else f"model_type '{self.kind.name}'"
        self.problems.append(
            f"{NAME_OF_ROLE[role]}: {self.kind.name} needs it, and {why}. {offer(fits, role)}"
            + (f" Choose one with {slot}." if fits else "")
        )
        return None

    def _encoder(self, role: str, name: str) -> ModelFile | None:
        label = NAME_OF_ROLE.get(role, "a text encoder")
        if name == NOTHING:
            self.problems.append(
                f"{role}: {self.kind.name} needs {label}, and nothing is chosen. {self._offer(role)}"
            )
            return None
        file = self._chosen(role, ENCODER_LIST, name)
        if file is None or file.contents.kind is FileKind.UNKNOWN:
            return file
        fits = file.contents.kind is FileKind.TEXT_ENCODER and (
            role not in KINDS_OF_ROLE or file.contents.encoder in KINDS_OF_ROLE[role]
        )
        if not fits:
            self.problems.append(
                f"{role}: '{name}' is {file.contents}, not {label}. {self._offer(role)}"
            )
        return file

    def _offer(self, role: str) -> str:
        if role in OTHER_SLOTS:
            return "Choose a file."
        return offer(files_for(self.shelf, role, self.kind.family), role)

    def _chosen(self, slot: str, place: str, name: str) -> ModelFile | None:
        before = len(self.problems)
        file = self._find(slot, place, name)
        if file is None and len(self.problems) == before:
            would_do = (
                "" if place == IP_ADAPTER_LIST else self._offer(_ROLE_OF_LIST.get(place, slot))
            )
            self.problems.append(
                f"{slot}: there is no file '{name}' in models/{place}. {would_do}".rstrip()
            )
        return file

    # The rest

    def _vae(self) -> VaePart | None:
        name = self.choice.vae_name
        if name == FROM_CHECKPOINT:
            return self._baked_vae()
        if name == NOTHING:
            self.problems.append(
                f"vae_name: the output vae is linked, and nothing is chosen. {self._offer(VAE_ROLE)}"
            )
            return None
        file = self._chosen("vae_name", VAE_LIST, name)
        if file is None:
            return None
        channels = LATENT_CHANNELS.get(self.kind.family, 0)
        found = file.contents.latent_channels
        if file.contents.kind not in (FileKind.VAE, FileKind.UNKNOWN):
            self.problems.append(
                f"vae_name: '{name}' is {file.contents}, not a VAE. Choose another."
            )
        elif channels and file.contents.is_video:
            self.problems.append(
                f"vae_name: '{name}' is for videos; {self.kind.name} makes images. "
                + self._offer(VAE_ROLE)
            )
        elif channels and found and channels != found:
            self.problems.append(
                f"vae_name: '{name}' is for latents of {found} channels; those of {self.kind.name} "
                f"have {channels}. {self._offer(VAE_ROLE)}"
            )
        return VaePart(file)

    def _baked_vae(self) -> VaePart | None:
        if self.model is None:
            return None
        if self.contents.has_vae or self.contents.kind is FileKind.UNKNOWN:
            return VaePart(self.model, checkpoint=True)
        if self.is_auto and self.kind.family:
            file = self._only_one(VAE_ROLE)
            return VaePart(file) if file else None
        self.problems.append(
            f"vae_name: '{self.model.name}' is {self.contents} without a VAE. {self._offer(VAE_ROLE)}"
        )
        return None

    def _vision(self) -> ModelFile | None:
        if not self.kind.vision:
            family = self.kind.family
            fits = [kind for kind in MODEL_TYPES.values() if kind.vision and kind.family == family]
            remedy = (
                f"Choose the model type {quoted(kind.name for kind in fits)}"
                if fits
                else ("Use ComfyUI's own loader for one")
            )
            self.problems.append(
                f"clip_vision: {self.kind.name} comes without an image encoder. {remedy}, or unlink "
                "the output."
            )
            return None
        name = self.choice.slots.get(VISION_ROLE, NOTHING)
        if name == NOTHING:
            self.problems.append(f"clip_vision: nothing is chosen. {self._offer(VISION_ROLE)}")
            return None
        file = self._chosen(VISION_ROLE, VISION_LIST, name)
        if file and file.contents.kind is not FileKind.UNKNOWN and not is_vision(file):
            self.problems.append(
                f"clip_vision: '{name}' is {file.contents}, not an image encoder. "
                + self._offer(VISION_ROLE)
            )
        return file

    def _ip_adapter(self) -> ModelFile | None:
        name = self.choice.ip_adapter_name
        if name == NOTHING:
            names = list(self.shelf.names_in(IP_ADAPTER_LIST))
            there = (
                f"There are: {quoted(names)}."
                if names
                else f"No file is in models/{IP_ADAPTER_LIST}: put one there."
            )
            self.problems.append(
                f"ip_adapter_name: the output is linked, and nothing is chosen. {there}"
            )
            return None
        file = self._chosen("ip_adapter_name", IP_ADAPTER_LIST, name)
        if file and file.contents.kind not in (FileKind.IP_ADAPTER, FileKind.UNKNOWN):
            self.problems.append(
                f"ip_adapter_name: '{name}' is {file.contents}, not an IP-Adapter. Choose another."
            )
        return file

    def _with_language_model(self, plan: Plan) -> Plan:
        """Z-IMAGE's text encoder is a language model, which may see through a file beside it."""
        if not {"llm", "clip_vision"} & self.choice.wanted:
            return plan
        clip = plan.clip or self._clip()
        file = clip.files[0] if clip and clip.files and not clip.checkpoint else None
        if file is None:
            if clip and clip.checkpoint:
                self.problems.append(
                    "qwen3: the outputs llm and clip_vision need the encoder as a file of its own. "
                    + self._offer("qwen3")
                )
            return plan
        mmproj = _mmproj_beside(file.path)
        if mmproj is None and "clip_vision" in self.choice.wanted:
            self.problems.append(
                f"clip_vision: beside '{file.name}' lies no file with 'mmproj' in its name. "
                "Put the one that belongs to the model there, or unlink the output."
            )
        return replace(plan, llm=file, mmproj=mmproj)


def _type_of(family: str) -> ModelType:
    """Return the first type of a family; "Other" where there is none."""
    fits = (kind for kind in MODEL_TYPES.values() if kind.family and kind.family == family)
    return next(fits, MODEL_TYPES[OTHER])


def _found(file: ModelFile) -> str:
    contents = file.contents
    inside = [NAME_OF_ROLE.get(kind, kind) for kind in contents.baked_encoders]
    inside += ["VAE"] if contents.has_vae else []
    has = f" with {', '.join(inside)}" if inside else ""
    return f"Auto: '{file.name}' is {contents}{has}."


def _mmproj_beside(path: Path) -> Path | None:
    found = sorted(
        file for file in path.parent.iterdir() if "mmproj" in file.name.lower() and file != path
    )
    return found[0] if found else None

"""What can be chosen in the router, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..weights.shelf import ModelFile

AUTO = "Auto"
OTHER = "Other"
NOTHING = "None"
FROM_CHECKPOINT = "from checkpoint"
OTHER_SLOTS = (
    "clip_1",
    "clip_2",
    "clip_3",
    "clip_4",
)  # the slots of a type whose encoders are free

# Where a model is looked for. ComfyUI reads models/unet and models/diffusion_models as one list.
LISTS_OF_SOURCE = {
    "checkpoints": ("checkpoints",),
    "diffusion_models": ("diffusion_models",),
    "unet": ("diffusion_models",),
}
ENCODER_LIST, VAE_LIST, VISION_LIST, IP_ADAPTER_LIST = (
    "text_encoders",
    "vae",
    "clip_vision",
    "ipadapter",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chose.

    Attributes:
        model_source: A key of LISTS_OF_SOURCE.
        model_name: A file of it, or "None".
        model_type: "Auto" or a name of utils/model_types.py.
        slots: Slot of an encoder (its role, or clip_1 … for "Other") → file, "from checkpoint" or "None".
        clip_type: For "Other": which of ComfyUI's CLIPType the encoders are loaded as.
        vae_name: File, "from checkpoint" or "None".
        ip_adapter_name: File or "None".
        wanted: Outputs that something is linked to; nothing else is loaded or asked for.
    """

    model_source: str
    model_name: str
    model_type: str
    slots: Mapping[str, str] = field(default_factory=dict)
    clip_type: str = ""
    vae_name: str = FROM_CHECKPOINT
    ip_adapter_name: str = NOTHING
    wanted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ClipPart:
    """Text encoders to load: the files in the loader's order, or the checkpoint that has them inside.

    Attributes:
        files: The files.
        clip_type: Name of ComfyUI's CLIPType; a checkpoint says its own.
        checkpoint: The one file is a checkpoint, of which all text encoders are taken.
        inside: Of a set that is put together: for each file the role of the encoder to take out of it, or
            "" where the file is the encoder. Empty: no file is a checkpoint.
    """

    files: tuple[ModelFile, ...]
    clip_type: str
    checkpoint: bool = False
    inside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VaePart:
    """A VAE to load: its file, or the checkpoint that has it inside."""

    file: ModelFile
    checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load. Parts that nothing is linked to are None.

    Attributes:
        model_type: The family, found out where "Auto" was chosen.
        model_name: As it is shown; empty when no model was chosen.
        mmproj: For Z-IMAGE: the file beside the encoder that lets it see.
        llm: For Z-IMAGE: the encoder, which is a language model too.
        notes: What the person should know, in sentences.
    """

    model_type: str
    model_name: str = ""
    model: ModelFile | None = None
    clip: ClipPart | None = None
    vae: VaePart | None = None
    clip_vision: ModelFile | None = None
    mmproj: Path | None = None
    llm: ModelFile | None = None
    ip_adapter: ModelFile | None = None
    notes: tuple[str, ...] = ()

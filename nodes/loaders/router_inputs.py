"""The inputs of the Luna Model Router: which slots there are for each model type, and what they offer."""

from __future__ import annotations

import comfy.sd
from comfy_api.latest import io

from ...utils.file_names import FileNames
from ...utils.model_types import MODEL_TYPES, NAME_OF_ROLE, VISION_ROLE, ModelType
from ...utils.routing.choice import (
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
)
from ..conversions import usable_targets
from ..model_folders import names_in
from ..model_source import DaemonMode


def router_inputs() -> list[io.Input]:
    """Return the inputs. ComfyUI asks again whenever it needs the lists."""
    return [
        *model_inputs(),
        io.DynamicCombo.Input(
            "model_type",
            options=[
                io.DynamicCombo.Option(AUTO, []),
                *(io.DynamicCombo.Option(kind.name, _slots(kind)) for kind in MODEL_TYPES.values()),
            ],
            tooltip="The model's family, which decides about its text encoders. Auto reads the file's "
            "header, says what it found and takes what fits.",
        ),
        io.Combo.Input(
            "vae_name",
            options=FileNames([FROM_CHECKPOINT, NOTHING, *names_in(VAE_LIST)]),
            default=FROM_CHECKPOINT,
            tooltip="The VAE: the one inside the checkpoint, or a file.",
        ),
        io.Combo.Input(
            "ip_adapter_name",
            options=FileNames([NOTHING, *names_in(IP_ADAPTER_LIST)]),
            default=NOTHING,
            tooltip="An IP-Adapter for nodes that apply one.",
        ),
        daemon_mode_input(),
        precision_input("dynamic_precision", [NOTHING]),
    ]


def model_inputs() -> list[io.Input]:
    """Return the inputs that choose a model's file."""
    models = [
        name for lists in LISTS_OF_SOURCE.values() for place in lists for name in names_in(place)
    ]
    return [
        io.Combo.Input(
            "model_source",
            options=list(LISTS_OF_SOURCE),
            default="checkpoints",
            tooltip="Folder of the model. Checkpoints may bring text encoders and VAE along; unet is "
            "the old name of diffusion_models.",
        ),
        io.Combo.Input(
            "model_name",
            options=FileNames([NOTHING, *dict.fromkeys(models)]),
            default=NOTHING,
            tooltip="The model. Where the chosen folder does not have it, the others are searched.",
        ),
    ]


def precision_input(name: str, before: list[str]) -> io.Input:
    """Return the input that chooses a precision; `before` are options that come first."""
    targets = usable_targets()
    told = "\n".join(f"{target.name}: {target.advice}" for target in targets)
    return io.Combo.Input(
        name,
        optional=True,
        options=[*before, *(target.name for target in targets)],
        default=before[0] if before else targets[0].name,
        tooltip="The diffusion model is converted once, into models/unet, and the converted file is used "
        f"from then on. Text encoders and VAE stay as they are.\n{told}",
    )


def daemon_mode_input(optional: bool = False) -> io.Input:
    """Return the input that says where text encoders and VAE are to be."""
    return io.Combo.Input(
        "daemon_mode",
        optional=optional,
        options=[mode.value for mode in DaemonMode],
        default=DaemonMode.AUTO.value,
        tooltip="auto: text encoders and VAE live in the Luna daemon, which is started if needed, "
        "or here where it cannot be reached. force_daemon: an error instead. force_local: always here.",
    )


def _slots(kind: ModelType) -> list[io.Input]:
    if kind.name == OTHER:
        return _free_slots()
    slots: list[io.Input] = [
        io.Combo.Input(
            role,
            options=FileNames([FROM_CHECKPOINT, *names_in(ENCODER_LIST)]),
            default=FROM_CHECKPOINT,
            tooltip=f"The text encoder {NAME_OF_ROLE[role]}: inside the checkpoint, or a file.",
        )
        for role in kind.text_encoders
    ]
    if kind.vision:
        slots.append(
            io.Combo.Input(
                VISION_ROLE,
                options=FileNames([NOTHING, *names_in(VISION_LIST)]),
                default=NOTHING,
                tooltip="The image encoder, such as CLIP-H or SigLIP.",
            )
        )
    return slots


def _free_slots() -> list[io.Input]:
    first, *others = OTHER_SLOTS
    files = names_in(ENCODER_LIST)
    return [
        io.Combo.Input(
            "clip_type",
            options=[kind.name.lower() for kind in comfy.sd.CLIPType],
            default="stable_diffusion",
            tooltip="How ComfyUI is to use the encoders; only for files.",
        ),
        io.Combo.Input(
            first,
            options=FileNames([FROM_CHECKPOINT, *files]),
            default=FROM_CHECKPOINT,
            tooltip="The first text encoder: inside the checkpoint, or a file.",
        ),
        *(
            io.Combo.Input(
                slot,
                options=FileNames([NOTHING, *files]),
                default=NOTHING,
                tooltip="A further text encoder, where the model has several.",
            )
            for slot in others
        ),
    ]

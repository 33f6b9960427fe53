"""Luna Daemon VAE Loader and Luna Daemon CLIP Loader: one part each, always in the daemon."""

from __future__ import annotations

from typing import Any

import comfy.sd
from comfy_api.latest import io

from ...utils.errors import InputError
from ...utils.file_names import FileNames
from ...utils.model_types import find_model_type
from ...utils.routing.choice import ENCODER_LIST, NOTHING, VAE_LIST, ClipPart, VaePart
from ...utils.routing.encoder_set import order_for_a_family
from ...utils.weights.contents import FileKind
from ...utils.weights.shelf import ModelFile
from ..model_folders import names_in, shelf
from ..model_source import DaemonMode, choose_source, times_to_load_again
from ..prompt_context import workflow_id_of
from ..schema import node_schema

AUTO = "auto"
_HIDDEN = [io.Hidden.dynprompt, io.Hidden.extra_pnginfo]


class LunaDaemonVAELoader(io.ComfyNode):
    """A VAE in the daemon."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaDaemonVAELoader",
            display_name="Luna Daemon VAE Loader",
            category="Luna/Loaders",
            description="Opens a VAE in the Luna daemon, which is started if it does not run. Where it "
            "cannot be, this is an error; the Luna Model Router can load locally instead.",
            search_aliases=["load vae", "vae loader", "shared vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name", options=FileNames(names_in(VAE_LIST)), tooltip="The VAE."
                ),
            ],
            outputs=[io.Vae.Output("vae", tooltip="The VAE, for any node that takes one.")],
            hidden=_HIDDEN,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return times_to_load_again()

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        source = choose_source(DaemonMode.FORCE_DAEMON, workflow_id_of(cls.hidden), "Other")
        file = _file(VAE_LIST, vae_name, FileKind.VAE)
        return io.NodeOutput(source.open_vae(VaePart(file)))


class LunaDaemonCLIPLoader(io.ComfyNode):
    """Text encoders in the daemon."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = FileNames(names_in(ENCODER_LIST))
        types = [AUTO, *(kind.name.lower() for kind in comfy.sd.CLIPType)]
        return node_schema(
            node_id="LunaDaemonCLIPLoader",
            display_name="Luna Daemon CLIP Loader",
            category="Luna/Loaders",
            description="Opens one or two text encoders in the Luna daemon, which is started if it does "
            "not run. Where they cannot be, this is an error.",
            search_aliases=["load clip", "dual clip loader", "shared text encoder"],
            inputs=[
                io.Combo.Input("clip_name1", options=files, tooltip="The first text encoder."),
                io.Combo.Input(
                    "clip_name2",
                    options=FileNames([NOTHING, *files]),
                    default=NOTHING,
                    optional=True,
                    tooltip="The second, where the model has two.",
                ),
                io.Combo.Input(
                    "type",
                    options=types,
                    default=AUTO,
                    optional=True,
                    tooltip="How ComfyUI is to use them; auto finds it out from the files.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The text encoders, for any node that takes them.")
            ],
            hidden=_HIDDEN,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return times_to_load_again()

    @classmethod
    def execute(cls, clip_name1: str, clip_name2: str = NOTHING, type: str = AUTO) -> io.NodeOutput:
        names = [name for name in (clip_name1, clip_name2) if name != NOTHING]
        files = tuple(_file(ENCODER_LIST, name, FileKind.TEXT_ENCODER) for name in names)
        family, clip_type = find_model_type("Other"), type.upper()
        if type == AUTO:
            family, files = order_for_a_family(files)
            clip_type = family.clip_type
        source = choose_source(DaemonMode.FORCE_DAEMON, workflow_id_of(cls.hidden), family.name)
        return io.NodeOutput(source.open_clip(ClipPart(files, clip_type)))


def _file(folder: str, name: str, kind: FileKind) -> ModelFile:
    file = shelf.find(folder, name)
    if file is None:
        raise InputError(f"There is no file '{name}' in models/{folder}.", "Choose another.")
    if file.contents.kind not in (kind, FileKind.UNKNOWN):
        raise InputError(f"'{name}' is {file.contents}, not {kind.value}.", "Choose another file.")
    return file


NODES = [LunaDaemonVAELoader, LunaDaemonCLIPLoader]

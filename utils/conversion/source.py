"""The file that is converted: its identity, and the diffusion model in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError
from ..weights.contents import Contents, FileKind
from ..weights.detection import describe, describe_shapes
from ..weights.diffusion_models import baked_parts, model_prefix
from ..weights.families import describe_model
from ..weights.safetensors_header import (
    ITEM_BITS,
    SafetensorsHeader,
    StoredTensor,
    read_safetensors_header,
)
from ..weights.sampling_marks import MARKS
from .diffusers_layouts import published_layout
from .model_tensors import ModelTensor, Piece
from .refusal import ConversionRefusedError, Reason

READABLE = (".safetensors", ".sft")
# Element type in the file → the precision that people call it.
PRECISION_OF = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}
# Marks of quantised files, at the end of a tensor's name: ComfyUI's new and old layout, bitsandbytes,
# SVDQuant, GPTQ and AWQ.
_QUANTISED_ENDINGS = (
    ".comfy_quant",
    ".weight_scale",
    ".scale_weight",
    "scaled_fp8",
    ".absmax",
    ".quant_state",
    ".qweight",
    ".wscales",
)
_SMALL_TYPES = {name for name, bits in ITEM_BITS.items() if bits <= 8 and name != "BOOL"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, whatever it is called: another size, time or header is another file.

    Attributes:
        size: Bytes.
        mtime_ns: When it was changed last, in nanoseconds since the epoch.
        digest: SHA-256 of its header, in hex.
    """

    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file with a diffusion model that can be converted.

    Attributes:
        path: Where it is.
        identity: Which file it is.
        contents: What it holds, for sentences.
        tensors: The diffusion model's tensors by their names in it, without a checkpoint's prefix; with
            them the marks that say how it is sampled.
        architecture: What GGUF files call its architecture; empty where they have no name for it.
        metadata: The free texts that the file carries.
        precision: fp16, bf16, fp32 or fp64: that of most weights.
    """

    path: Path
    identity: Identity
    contents: Contents
    tensors: Mapping[str, ModelTensor]
    architecture: str
    metadata: Mapping[str, str]
    precision: str

    @property
    def is_checkpoint(self) -> bool:
        """Does the file hold more than the diffusion model?"""
        return self.contents.kind is FileKind.CHECKPOINT


def identify(path: Path) -> tuple[Identity, SafetensorsHeader]:
    """Return which file this is, and its header.

    Raises:
        ConversionRefusedError: It is not a safetensors file.
        ModelFileError: It is missing or damaged.
    """
    if path.suffix.lower() not in READABLE:
        raise ConversionRefusedError(
            Reason.FORMAT,
            f"'{path.name}' cannot be converted: only safetensors files are.",
            "Save it as safetensors first, or choose another file.",
        )
    header = read_safetensors_header(path)
    state = path.stat()
    return Identity(state.st_size, state.st_mtime_ns, header.digest), header


def open_source(path: Path) -> Source:
    """Read what a file holds, and check that there is a diffusion model in it that can be converted.

    Raises:
        ConversionRefusedError: There is none, or it is quantised already.
        ModelFileError: The file is missing or damaged.
    """
    identity, header = identify(path)
    contents = describe(header)
    if contents.kind not in (FileKind.CHECKPOINT, FileKind.DIFFUSION_MODEL):
        raise ConversionRefusedError(
            Reason.NO_MODEL,
            f"'{path.name}' is {contents.kind.value}, and only diffusion models are converted.",
            "Choose a checkpoint or a diffusion model.",
        )
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    prefix = model_prefix(shapes)
    stored = {
        name.removeprefix(prefix): tensor
        for name, tensor in header.tensors.items()
        if name.startswith(prefix)
    }
    marks = {name: tensor for name, tensor in header.tensors.items() if name in MARKS}
    _refuse_quantised(path, stored, header.metadata)
    data_begin = identity.size - header.total_bytes
    tensors = _placed(stored, data_begin)
    model = describe_model({name: tensor.shape for name, tensor in tensors.items()})
    if model is not None and model.diffusers:
        tensors = _published(path, tensors, model.architecture)
    tensors = {**tensors, **_placed(marks, data_begin)}
    return Source(
        path,
        identity,
        contents,
        tensors,
        model.architecture if model else "",
        header.metadata,
        _precision(path, tensors),
    )


def open_parts(path: Path) -> dict[str, Source]:
    """Return the text encoders and the VAE inside a checkpoint: kind, such as "clip_l", or "vae" → what to copy.

    Raises:
        ConversionRefusedError: There are none, or the file's header describes how their layers are quantised.
        ModelFileError: The file is missing or damaged.
    """
    identity, header = identify(path)
    parts = baked_parts({name: tensor.shape for name, tensor in header.tensors.items()})
    if not parts:
        raise ConversionRefusedError(
            Reason.NO_MODEL,
            f"'{path.name}' has neither text encoders nor a VAE inside.",
            "Choose a whole checkpoint.",
        )
    if "_quantization_metadata" in header.metadata:
        raise ConversionRefusedError(
            Reason.QUANTISED,
            f"'{path.name}' is quantised, with notes for all of its models together.",
            "Choose the checkpoint in fp16, bf16 or fp32.",
        )
    return {kind: _part(path, identity, header, prefix) for kind, prefix in parts.items()}


def _part(path: Path, identity: Identity, header: SafetensorsHeader, prefix: str) -> Source:
    stored = {
        name.removeprefix(prefix): tensor
        for name, tensor in header.tensors.items()
        if name.startswith(prefix)
    }
    tensors = _placed(stored, identity.size - header.total_bytes)
    contents = describe_shapes({name: tensor.shape for name, tensor in stored.items()})
    return Source(path, identity, contents, tensors, "", {}, _precision(path, tensors))


def _placed(stored: Mapping[str, StoredTensor], data_begin: int) -> dict[str, ModelTensor]:
    return {
        name: ModelTensor(t.dtype, t.shape, (Piece(data_begin + t.begin, t.end - t.begin),))
        for name, t in stored.items()
    }


def check_unchanged(source: Source) -> None:
    """Check that a source is still the file that was opened.

    Raises:
        ModelFileError: It was changed or replaced since.
    """
    identity, _ = identify(source.path)
    if identity != source.identity:
        raise ModelFileError(
            f"'{source.path.name}' was changed while it was converted.",
            "Convert it again when it is written completely.",
        )


def _published(
    path: Path, tensors: Mapping[str, ModelTensor], architecture: str
) -> dict[str, ModelTensor]:
    published = published_layout(tensors, architecture)
    if isinstance(published, str):
        raise ConversionRefusedError(
            Reason.LAYOUT,
            f"'{path.name}' is in diffusers' layout and cannot be converted exactly: {published}.",
            "Choose a file in the layout that the model was published in.",
        )
    return published


def _refuse_quantised(
    path: Path, tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]
) -> None:
    small = sorted(
        {t.dtype for t in tensors.values() if t.dtype in _SMALL_TYPES and len(t.shape) > 1}
    )
    marked = "_quantization_metadata" in metadata or any(
        name.endswith(_QUANTISED_ENDINGS) for name in tensors
    )
    if small or marked:
        what = ", ".join(small) or "it has scales beside its weights"
        raise ConversionRefusedError(
            Reason.QUANTISED,
            f"'{path.name}' is quantised already ({what}); converting it again would only lose more.",
            "Choose the model in fp16, bf16 or fp32, or use this file as it is.",
        )


def _precision(path: Path, tensors: Mapping[str, ModelTensor]) -> str:
    weights: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in PRECISION_OF:
            weights[PRECISION_OF[tensor.dtype]] += tensor.count
    if not weights:
        raise ConversionRefusedError(
            Reason.NO_MODEL, f"'{path.name}' has no weights.", "Download it again."
        )
    return weights.most_common(1)[0][0]

"""The file that is converted: its identity, and the diffusion model in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError
from ..weights.contents import Contents, FileKind
from ..weights.detection import describe_shapes
from ..weights.diffusion_models import MODEL_PREFIX, baked_parts, model_prefix
from ..weights.families import describe_model
from ..weights.safetensors_header import ITEM_BITS
from ..weights.sampling_marks import MARKS
from .diffusers_layouts import published_layout
from .model_tensors import ModelTensor
from .refusal import ConversionRefusedError, Reason
from .source_files import Identity, SourceFiles, read_source

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
QUANTISATION = "_quantization_metadata"  # where ComfyUI looks for the formats of layers
_LARGE_TYPES = {name for name, bits in ITEM_BITS.items() if bits > 8 or name == "BOOL"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file with a diffusion model that can be converted.

    Attributes:
        path: Where it is.
        files: The file, or its parts.
        identity: Which file it is.
        contents: What it holds, for sentences.
        tensors: The diffusion model's tensors by their names in it, without a checkpoint's prefix; with
            them the marks that say how it is sampled.
        architecture: What GGUF files call its architecture; empty where they have no name for it.
        metadata: The free texts that the file carries.
        precision: fp16, bf16, fp32 or fp64: that of most weights; of a GGUF file gguf_F16 and so on.
    """

    path: Path
    files: tuple[Path, ...]
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


def open_source(path: Path) -> Source:
    """Read what a file holds, and check that there is a diffusion model in it that can be converted.

    Raises:
        ConversionRefusedError: There is none, or it is quantised already.
        ModelFileError: The file is missing or damaged.
    """
    stored = read_source(path)
    shapes = {name: tensor.shape for name, tensor in stored.tensors.items()}
    contents = describe_shapes(shapes)
    tensors = _below(model_prefix(shapes), stored.tensors)
    if contents.kind is FileKind.UNKNOWN:  # packed weights have other shapes and names
        _refuse_quantised(path, tensors, stored.metadata)
    if contents.kind not in (FileKind.CHECKPOINT, FileKind.DIFFUSION_MODEL):
        raise ConversionRefusedError(
            Reason.NO_MODEL,
            f"'{path.name}' is {contents.kind.value}, and only diffusion models are converted.",
            "Choose a checkpoint or a diffusion model.",
        )
    marks = {name: tensor for name, tensor in stored.tensors.items() if name in MARKS}
    _refuse_quantised(path, tensors, stored.metadata)
    model = describe_model({name: tensor.shape for name, tensor in tensors.items()})
    if model is not None and model.diffusers:
        tensors = _published(path, tensors, model.architecture)
    tensors = {**tensors, **marks}
    return Source(
        path,
        stored.files,
        stored.identity,
        contents,
        tensors,
        model.architecture if model else "",
        stored.metadata,
        _precision(path, tensors, is_gguf=stored.is_gguf),
    )


def open_parts(path: Path) -> dict[str, Source]:
    """Return the text encoders and the VAE inside a checkpoint: kind, such as "clip_l", or "vae" → what to copy.

    Raises:
        ConversionRefusedError: There are none, or the file's header describes how their layers are quantised.
        ModelFileError: The file is missing or damaged.
    """
    stored = read_source(path)
    parts = baked_parts({name: tensor.shape for name, tensor in stored.tensors.items()})
    if not parts:
        raise ConversionRefusedError(
            Reason.NO_MODEL,
            f"'{path.name}' has neither text encoders nor a VAE inside.",
            "Choose a whole checkpoint.",
        )
    if QUANTISATION in stored.metadata:
        raise ConversionRefusedError(
            Reason.QUANTISED,
            f"'{path.name}' is quantised, with notes for all of its models together.",
            "Choose the checkpoint in fp16, bf16 or fp32.",
        )
    return {kind: _part(path, stored, prefix) for kind, prefix in parts.items()}


def _part(path: Path, stored: SourceFiles, prefix: str) -> Source:
    tensors = _below(prefix, stored.tensors)
    contents = describe_shapes({name: tensor.shape for name, tensor in tensors.items()})
    precision = _precision(path, tensors, is_gguf=stored.is_gguf)
    return Source(path, stored.files, stored.identity, contents, tensors, "", {}, precision)


def _below(prefix: str, tensors: Mapping[str, ModelTensor]) -> dict[str, ModelTensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def check_unchanged(source: Source) -> None:
    """Check that a source is still the file that was opened.

    Raises:
        ModelFileError: It was changed or replaced since.
    """
    if read_source(source.path).identity != source.identity:
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
    path: Path, tensors: Mapping[str, ModelTensor], metadata: Mapping[str, str]
) -> None:
    small = sorted(
        {t.dtype for t in tensors.values() if t.dtype not in _LARGE_TYPES and len(t.shape) > 1}
    )
    # A checkpoint whose text encoder is quantised says so in the same place.
    marked = any(f"{layer}.weight" in tensors for layer in _noted_layers(metadata))
    marked = marked or any(name.endswith(_QUANTISED_ENDINGS) for name in tensors)
    if small or marked:
        what = ", ".join(small) or "it has scales beside its weights"
        raise ConversionRefusedError(
            Reason.QUANTISED,
            f"'{path.name}' is quantised already ({what}); converting it again would only lose more.",
            "Choose the model in fp16, bf16 or fp32, or use this file as it is.",
        )


def _noted_layers(metadata: Mapping[str, str]) -> list[str]:
    """Return the layers that a file says are quantised, without a checkpoint's prefix for the diffusion model."""
    try:
        layers = json.loads(metadata.get(QUANTISATION, "{}")).get("layers", {})
    except (ValueError, AttributeError):
        return []
    return [str(name).removeprefix(MODEL_PREFIX) for name in layers]


def _precision(path: Path, tensors: Mapping[str, ModelTensor], *, is_gguf: bool) -> str:
    weights: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in PRECISION_OF:
            name = f"gguf_{tensor.dtype}" if is_gguf else PRECISION_OF[tensor.dtype]
            weights[name] += tensor.count
    if not weights:
        raise ConversionRefusedError(
            Reason.NO_MODEL, f"'{path.name}' has no weights.", "Download it again."
        )
    return weights.most_common(1)[0][0]

"""What a GGUF file of each recipe holds: which type each tensor has, and how the file says so.

A recipe such as Q4_K_M is a type for most tensors and better ones for some: an error in the values of
attention and in the last layer of a feed-forward net counts more. Which tensors that are follows the files of
image models that people share, and llama.cpp's recipes of the same names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..quantization.ggml_library import absence
from ..quantization.ggml_types import fits, row_bytes
from ..quantization.quantize import can_quantize
from ..weights.sampling_marks import MARKS, gguf_values
from . import encodings
from .architectures import Architecture, find_architecture
from .encodings import Encoding
from .gguf_layout import Values, gguf_layout
from .layouts import Slot
from .model_tensors import ModelTensor
from .plan import FLOATS, Plan, PlannedTensor
from .refusal import ConversionRefusedError, Reason
from .source import Source

# What ComfyUI reads of a file beside its tensors: the settings of LTX-Video.
_TEXTS = ("config",)
_QUANTISATION_VERSION = 2  # of ggml's types
_MOST_DIMENSIONS = 4
# Tensors up to so many elements stay in 32 bits: they cost nothing.
_SMALL = 1024
# Parameters that are no weight of a layer: loaders take them in 16 or 32 bits only, and not in bf16.
_LARGE_PARAMETER = 1 << 20
# The weights of convolutions along one and three axes have so many dimensions; loaders take them like parameters.
_NO_LAYER = (3, 5)
# Types that are no decimal numbers → what has as many bits.
_WHOLE_NUMBERS = {
    **dict.fromkeys(("I64", "U64"), "I64"),
    **dict.fromkeys(("I32", "U32"), "I32"),
    **dict.fromkeys(("I16", "U16"), "I16"),
    **dict.fromkeys(("I8", "U8", "BOOL"), "I8"),
}
_LINE = 256  # elements of a row that short rows of a U-Net are joined to

_VALUES = re.compile(r"(?:to_v|attn_v|\.v|v_proj|\.w[12]v)\.weight$")
_FUSED = re.compile(r"(?:^|[._])qkv\.weight$")
_DOWN = re.compile(
    r"(?:ff\.net\.2|ffn\.2|(?:img_|txt_)?mlp\.(?:2|fc2|layer2)|(?:img|txt)_mlp\.(?:2|net\.2)"
    r"|feed_forward\.w2|experts\.\d+\.w2)\.weight$"
)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A recipe.

    Attributes:
        file_type: Its number in general.file_type.
        type: The type of most large tensors.
        better: Finds names → the type of those tensors.
    """

    file_type: int
    type: str
    better: tuple[tuple[re.Pattern[str], str], ...] = field(default=())


_RECIPES = {
    "gguf_F16": _Recipe(1, "F16"),
    "gguf_BF16": _Recipe(32, "BF16"),
    "gguf_Q8_0": _Recipe(7, "Q8_0"),
    "gguf_Q6_K": _Recipe(18, "Q6_K"),
    "gguf_Q5_K_M": _Recipe(17, "Q5_K", ((_VALUES, "Q6_K"), (_FUSED, "Q6_K"), (_DOWN, "Q6_K"))),
    "gguf_Q5_0": _Recipe(8, "Q5_0"),
    "gguf_Q4_K_M": _Recipe(15, "Q4_K", ((_VALUES, "Q6_K"), (_FUSED, "Q5_K"), (_DOWN, "Q6_K"))),
    "gguf_Q4_K_S": _Recipe(14, "Q4_K", ((_VALUES, "Q5_K"), (_DOWN, "Q5_K"))),
    "gguf_Q4_0": _Recipe(2, "Q4_0"),
    "gguf_IQ4_XS": _Recipe(30, "IQ4_XS", ((_VALUES, "Q5_K"), (_FUSED, "Q5_K"), (_DOWN, "Q5_K"))),
    "gguf_Q3_K_M": _Recipe(12, "Q3_K", ((_VALUES, "Q5_K"), (_FUSED, "Q4_K"), (_DOWN, "Q4_K"))),
}
# Where rows are no whole number of 256: blocks of 32 of about the same size.
_FALLBACK = {"Q3_K": "Q4_0", "IQ4_XS": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def is_made_here(target: str) -> bool:
    """Tell whether files of a target can be made on this machine: some types are ggml's alone."""
    return can_quantize(_RECIPES[target].type)


def gguf_plan(source: Source, target: str) -> Plan:
    """Return what is written for a target whose files are GGUF.

    Raises:
        ConversionRefusedError: No loader of GGUF files knows this architecture, or ggml would have to make it
            and is not installed.
    """
    if not is_made_here(target):
        raise ConversionRefusedError(Reason.ABSENT, *absence(_RECIPES[target].type))
    if not source.architecture:
        raise ConversionRefusedError(
            Reason.LAYOUT,
            f"'{source.path.name}' is {source.contents}, and no loader of GGUF files knows this architecture.",
            "Choose one of the fp8 precisions.",
        )
    odd = next((n for n, t in source.tensors.items() if not _has_type(t)), None)
    if odd is not None:
        raise ConversionRefusedError(
            Reason.LAYOUT,
            f"'{odd}' in '{source.path.name}' is of the type {source.tensors[odd].dtype}, which GGUF does not have.",
            "Choose one of the fp8 precisions.",
        )
    architecture, recipe = find_architecture(source.architecture), _RECIPES[target]
    values: Values = {
        "general.architecture": source.architecture,
        "general.quantization_version": _QUANTISATION_VERSION,
        "general.file_type": recipe.file_type,
        **{name: source.metadata[name] for name in _TEXTS if name in source.metadata},
    }
    empty = [name for name, tensor in source.tensors.items() if name in MARKS and not tensor.count]
    values |= gguf_values(empty)
    tensors = []
    for name, tensor in source.tensors.items():
        if architecture.skips(name) or not tensor.count:
            continue
        kind, shape = _stored(architecture, recipe, name, tensor)
        if shape != tensor.shape and tensor.shape:  # torch takes one element for a single number
            values[f"comfy.gguf.orig_shape.{name}"] = list(tensor.shape)
        tensors.append(_planned(name, tensor, kind, shape))
    layout = gguf_layout([tensor.slots[0] for tensor in tensors], values)
    return Plan(tuple(tensors), layout)


def _has_type(tensor: ModelTensor) -> bool:
    return tensor.dtype in FLOATS or tensor.dtype in _WHOLE_NUMBERS


def _stored(
    architecture: Architecture, recipe: _Recipe, name: str, tensor: ModelTensor
) -> tuple[str, tuple[int, ...]]:
    """Return a tensor's type and the shape that it is stored with."""
    shape = tensor.shape
    if len(shape) > _MOST_DIMENSIONS:
        shape = (shape[0], tensor.count // shape[0])
    if tensor.dtype not in FLOATS:
        return _WHOLE_NUMBERS[tensor.dtype], shape or (1,)
    if len(shape) < 2 or tensor.count <= _SMALL:
        return "F32", shape or (1,)
    if not name.endswith(".weight") or len(tensor.shape) in _NO_LAYER:
        return ("F32" if tensor.count < _LARGE_PARAMETER else "F16"), shape
    if architecture.keeps(name):
        return _sixteen(tensor), shape
    kind = next((kind for names, kind in recipe.better if names.search(name)), recipe.type)
    return _fitting(architecture, kind, tensor, shape)


def _fitting(
    architecture: Architecture, kind: str, tensor: ModelTensor, shape: tuple[int, ...]
) -> tuple[str, tuple[int, ...]]:
    """Return the type that a large tensor can have: rows have to be whole blocks."""
    if fits(kind, shape[-1]):
        return kind, shape
    if architecture.convolutional and tensor.count % _LINE == 0:
        return kind, (tensor.count // _LINE, _LINE)
    smaller = _FALLBACK.get(kind, kind)
    if fits(smaller, shape[-1]):
        return smaller, shape
    return _sixteen(tensor), shape


def _sixteen(tensor: ModelTensor) -> str:
    return "BF16" if tensor.dtype == "BF16" else "F16"


def _planned(name: str, tensor: ModelTensor, kind: str, shape: tuple[int, ...]) -> PlannedTensor:
    encoding = _encoding(tensor, kind, shape[-1])
    size = tensor.count // encoding.unit * encoding.unit_bytes
    slot = Slot(name, kind, shape, size)
    return PlannedTensor(name, tensor.dtype, tensor.count, tensor.pieces, encoding, (slot,))


def _encoding(tensor: ModelTensor, kind: str, row: int) -> Encoding:
    if kind == tensor.dtype or tensor.dtype not in FLOATS:
        return encodings.copied(kind, row_bytes(kind, 1))
    if kind in FLOATS:
        return encodings.cast(kind)
    return encodings.blocks(kind, row)

"""What a LoRA file is, from its header and its small numbers alone: no weight is loaded.

A file that cannot be a LoRA, or that would fail or do nothing when it is applied, has problems; each is a
sentence for a person.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelFileError
from ..weights.contents import FileKind
from ..weights.detection import describe
from ..weights.safetensors_header import SafetensorsHeader, StoredTensor, read_safetensors_header
from ..weights.shelf import READABLE
from .base_models import BaseModel, guess_base_model

_HEAD_BYTES = 1024
_LENGTH_BYTES = 8
# Kind of adapter → the ends of its tensors' names; the first is the one whose count is the layers'.
KINDS = {
    "LoRA": (
        ".lora_down.weight", ".lora_up.weight", ".lora_mid.weight",
        ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.default.weight",
        ".lora.down.weight", ".lora.up.weight", "_lora.down.weight", "_lora.up.weight",
        ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight",
    ),
    "LoHa": (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"),
    "LoKr": (".lokr_w1", ".lokr_w2", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"),
    "GLoRA": (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
    "OFT": (".oft_blocks", ".oft_diag"),
    "full difference": (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm"),
}  # fmt: skip
_ALPHA = ".alpha"
_BESIDES = (_ALPHA, ".dora_scale", ".reshape_weight", ".rescale", ".bias")
BUNDLED = "bundle_emb."  # embeddings that come along
# The two halves without which a layer does nothing.
_HALVES = {
    ".lora_down.weight": ".lora_up.weight",
    ".lora_A.weight": ".lora_B.weight",
    ".lora_A.default.weight": ".lora_B.default.weight",
    ".lora.down.weight": ".lora.up.weight",
    "_lora.down.weight": "_lora.up.weight",
    ".lora_linear_layer.down.weight": ".lora_linear_layer.up.weight",
    ".hada_w1_a": ".hada_w1_b",
    ".hada_w2_a": ".hada_w2_b",
}
# The tensors whose first side is the rank.
_RANKED = (*list(_HALVES)[:6], ".hada_w1_b", ".lokr_w1_b", ".lokr_w2_b")
_FLOATS = {"F16": "<e", "F32": "<f", "F64": "<d"}


@dataclass(frozen=True)
class LoraFile:
    """What was found.

    Attributes:
        name: As the list of LoRAs has it.
        problems: Sentences; none: the file is in order.
        kinds: Kind of adapter → number of its tensors.
        ranks: Rank → number of layers, the most frequent first.
        alphas: The values of alpha, in ascending order.
        base_model: What it was trained for.
        dtypes: Element type → number of tensors.
        tensors: How many there are.
        unknown: Ends of names that no adapter has → number of tensors.
        total_bytes: Of all tensors.
    """

    name: str
    problems: tuple[str, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[int, int] = field(default_factory=dict)
    alphas: tuple[float, ...] = ()
    base_model: BaseModel = field(default_factory=BaseModel)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    tensors: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    total_bytes: int = 0


def inspect_lora(path: Path, name: str) -> LoraFile:
    """Return what a file is; a damaged one is described, not raised."""
    foreign = _foreign(path)
    if foreign:
        return LoraFile(name, (foreign,))
    try:
        header = read_safetensors_header(path)
        alphas = _alphas(path, header)
    except ModelFileError as error:
        return LoraFile(name, (str(error),))
    kinds, unknown = _sorted_by_kind(header.tensors)
    return LoraFile(
        name,
        tuple(_problems(header, kinds, unknown)),
        kinds,
        _ranks(header.tensors),
        alphas,
        guess_base_model(header),
        dict(Counter(tensor.dtype for tensor in header.tensors.values()).most_common()),
        len(header.tensors),
        unknown,
        header.total_bytes,
    )


def _foreign(path: Path) -> str:
    """Return what a file is that only looks like a model, or "" ."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return (
            f"'{path.name}' cannot be read: {error.strerror}. Check the file and its permissions."
        )
    if head.startswith(b"version https://git-lfs"):
        return (
            f"'{path.name}' is a Git LFS pointer, not the model: only its address was downloaded. "
            "Run `git lfs pull` where it is from, or download the file itself."
        )
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            f"'{path.name}' is a web page, not a model: the download was answered with an error or a "
            "login page. Download it again."
        )
    if path.suffix.lower() not in READABLE:
        return (
            f"'{path.name}' is not a safetensors file, and files that can hold programs are not opened. "
            "Look for the same LoRA as safetensors."
        )
    return ""


def _sorted_by_kind(names: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    kinds: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for name in names:
        kind = next((kind for kind, ends in KINDS.items() if name.endswith(ends)), "")
        if kind:
            kinds[kind] += 1
        elif not name.endswith(_BESIDES) and not name.startswith(BUNDLED):
            unknown[_end_of(name)] += 1
    return dict(kinds.most_common()), dict(unknown.most_common())


def _end_of(name: str) -> str:
    """Return the last parts of a name, which say what a tensor is."""
    parts = [part for part in name.split(".") if not part.isdecimal()]
    return ".".join(parts[-2:])


def _ranks(tensors: Mapping[str, StoredTensor]) -> dict[int, int]:
    ranks = Counter(
        tensor.shape[0]
        for name, tensor in tensors.items()
        if name.endswith(_RANKED) and tensor.shape
    )
    return dict(sorted(ranks.items(), key=lambda item: (-item[1], item[0])))


def _problems(
    header: SafetensorsHeader, kinds: Mapping[str, int], unknown: Mapping[str, int]
) -> Iterable[str]:
    if not header.tensors:
        yield "It has no tensors. Download it again."
        return
    if not kinds:
        contents = describe(header)
        what = "" if contents.kind is FileKind.UNKNOWN else f" It is {contents}."
        yield f"None of its {len(header.tensors)} tensors is one of a LoRA.{what} Put it where it belongs."
        return
    lonely = _without_other_half(header.tensors)
    if lonely:
        yield (
            f"{len(lonely)} layers have only one half of their weights, such as '{lonely[0]}'. "
            "Download it again, or ask its author."
        )
    empty = [name for name, tensor in header.tensors.items() if 0 in tensor.shape]
    if empty:
        yield f"{len(empty)} tensors are empty, such as '{empty[0]}'. Download it again."
    wide = [
        name
        for name, tensor in header.tensors.items()
        if name.endswith(_ALPHA) and math.prod(tensor.shape) != 1
    ]
    if wide:
        yield f"'{wide[0]}' is no single number, so the file cannot be applied. Ask its author."
    if sum(unknown.values()) > sum(kinds.values()):
        yield (
            f"{sum(unknown.values())} of its tensors are of a kind that no LoRA has, such as "
            f"'{next(iter(unknown))}'; they will be ignored."
        )


def _without_other_half(names: Iterable[str]) -> list[str]:
    known = set(names)
    lonely = []
    for one, other in _HALVES.items():
        for first, second in ((one, other), (other, one)):
            for name in known:
                if name.endswith(first) and name[: -len(first)] + second not in known:
                    lonely.append(name)
    return sorted(lonely)


def _alphas(path: Path, header: SafetensorsHeader) -> tuple[float, ...]:
    wanted = [t for name, t in header.tensors.items() if name.endswith(_ALPHA) and t.end > t.begin]
    if not wanted:
        return ()
    with path.open("rb") as file:
        start = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
        values = set()
        for tensor in wanted:
            file.seek(start + tensor.begin)
            values.add(_number(file.read(min(8, tensor.end - tensor.begin)), tensor.dtype))
    return tuple(sorted(value for value in values if value is not None))


def _number(raw: bytes, dtype: str) -> float | None:
    if dtype == "BF16":
        raw, dtype = b"\0\0" + raw[:2], "F32"
    form = _FLOATS.get(dtype)
    if form is None or len(raw) < struct.calcsize(form):
        return None
    (value,) = struct.unpack_from(form, raw)
    return float(value)

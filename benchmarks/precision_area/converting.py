"""Whole files: converted, against copied; found again, against loaded; their sizes and errors."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...utils.conversion.converting import Converted, converted_once
from ...utils.conversion.refusal import ConversionRefusedError, Reason
from ...utils.conversion.targets import GGUF, TARGETS
from ...utils.quantization.dequantize import dequantize
from ...utils.quantization.ggml_types import GGML_TYPES
from ...utils.quantization.microscaling import FORMATS, dequantize_layer
from ...utils.quantization.quality import Quality
from ...utils.quantization.quality import compare as compare_quality
from ...utils.weights.gguf_header import GgufTensor, read_gguf_header
from ...utils.weights.safetensors_header import ITEM_BITS, read_safetensors_header
from ..entries import HIGHER, LOWER, Bench, Entry, ratio_entry
from ..pairs import PairPlan, Result, Side, compare
from .flux_file import make_source

GOALS = {"fp8_e4m3fn": 0.6, "fp8_e4m3fn_scaled": 0.35}
GOAL_AGAIN, GOAL_SIZE = 1.05, 1.001
_LOADING = PairPlan(most=15)
_SOURCE = "a file like a part of Flux (bf16, 0.4 GB, normally distributed weights)"


def measure_speed(bench: Bench) -> Iterator[Entry]:
    """Compare converting a file with copying it."""
    source = make_source(bench.folder, quick=bench.quick)
    for target, goal in GOALS.items():
        result = compare(_copying(source), _converting(source, target), bench.plan, bench.tell_pair)
        yield ratio_entry(
            f"{target}: speed / plain copy",
            result,
            goal,
            HIGHER,
            f"Source bytes per CPU-second of converting {_SOURCE} to {target}, over those of loading its "
            "tensors with safetensors and saving them again. All files are in the page cache.",
        )


def measure_again(bench: Bench) -> Iterator[Entry]:
    """Compare loading through the converter, where the file is there already, with loading it."""
    source = make_source(bench.folder, quick=bench.quick)
    models = bench.folder / "again"
    target = "fp8_e4m3fn_scaled"
    made = converted_once(source, target, models).path

    def found() -> None:
        _load(converted_once(source, target, models).path)

    yield ratio_entry(
        "second load of a converted file / loading it",
        compare(_cost(found), _cost(_load, made), bench.plan, bench.tell_pair),
        GOAL_AGAIN,
        LOWER,
        f"CPU time of asking for {_SOURCE} in {target}, which was made before, and loading what is found, "
        "over that of loading the file directly.",
    )
    shutil.rmtree(models)


def measure_files(bench: Bench) -> Iterator[Entry]:
    """Tell size, loading time and error of every target that can be made here."""
    source = make_source(bench.folder, quick=bench.quick)
    before = load_file(source)
    weights = sum(tensor.numel() for tensor in before.values())
    shares: list[float] = []
    for name, target in TARGETS.items():
        models = bench.folder / f"files-{name}"
        bench.tell(name)
        try:
            made = converted_once(source, name, models)
        except ConversionRefusedError as refusal:
            if refusal.reason not in (Reason.ABSENT, Reason.SAME_PRECISION):
                raise
            if refusal.reason is Reason.ABSENT:
                bench.tell(f"{name} is left out: {refusal.message}")
            continue
        size = made.path.stat().st_size
        shares.append(size / _computed_bytes(made))
        yield _figure(
            f"{name}: size",
            8 * size / weights,
            "bits/weight",
            "Bits of the whole file for each weight.",
        )
        result = compare(
            _cost(_load, made.path),
            _cost(_load, source),
            bench.plan if bench.quick else _LOADING,
            bench.tell_pair,
        )
        yield ratio_entry(
            f"{name}: loading / bf16",
            result,
            None,
            LOWER,
            f"CPU time of reading the file's tensors into memory, as they are stored, over that of {_SOURCE} "
            "itself. All files are in the page cache.",
        )
        error = _quality(before, made, is_gguf=target.container == GGUF)
        yield _figure(
            f"{name}: error",
            100 * error.relative_rmse,
            "%",
            f"Root mean square error of all weights of {_SOURCE}, relative to theirs.",
        )
        shutil.rmtree(models)
    worst = max(shares)
    yield ratio_entry(
        "size of a converted file / computed",
        Result(worst, (min(shares), worst), len(shares)),
        None if bench.quick else GOAL_SIZE,
        LOWER,
        f"Bytes of the file that {_SOURCE} becomes, over its tensors' numbers times the bits that each takes "
        "in its type; the largest of all precisions, and the range of them.",
    )


def _figure(name: str, value: float, unit: str, how: str) -> Entry:
    return Entry(
        name=name,
        value=value,
        unit=unit,
        goal=None,
        better=LOWER,
        n=1,
        spread=(value, value),
        how=how,
    )


def _copying(source: Path) -> Side:
    copy = source.with_suffix(".copy")

    def side() -> float:
        copy.unlink(missing_ok=True)
        started = time.process_time()
        save_file(load_file(source), copy)
        return time.process_time() - started

    return side


def _converting(source: Path, target: str) -> Side:
    numbers = itertools.count()

    def side() -> float:
        models = source.parent / f"models-{next(numbers)}"
        started = time.process_time()
        converted_once(source, target, models)
        took = time.process_time() - started
        shutil.rmtree(models)
        return took

    return side


def _cost(call: Callable[..., object], *arguments: object) -> Side:
    def side() -> float:
        started = time.process_time()
        call(*arguments)
        return time.process_time() - started

    return side


def _load(path: Path) -> dict[str, Tensor]:
    """Load tensors into memory of their own, as they are stored."""
    if path.suffix == ".gguf":
        return {name: raw.clone() for name, (_, raw) in _mapped(path).items()}
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _computed_bytes(made: Converted) -> float:
    if made.path.suffix == ".gguf":
        tensors = read_gguf_header(made.path).tensors.values()
        return sum(
            _count(tensor.shape) * GGML_TYPES[tensor.type].bits_per_weight / 8 for tensor in tensors
        )
    header = read_safetensors_header(made.path)
    return sum(_count(t.shape) * ITEM_BITS[t.dtype] / 8 for t in header.tensors.values())


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _quality(before: dict[str, Tensor], made: Converted, *, is_gguf: bool) -> Quality:
    after = _read_gguf(made.path) if is_gguf else _read_safetensors(made.path, before)
    return sum((compare_quality(before[name], after[name]) for name in before), Quality())


def _mapped(path: Path) -> dict[str, tuple[GgufTensor, Tensor]]:
    header = read_gguf_header(path)
    whole = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
    data = whole[header.data_begin :]
    return {name: (one, data[one.begin : one.end]) for name, one in header.tensors.items()}


def _read_gguf(path: Path) -> dict[str, Tensor]:
    return {
        name: dequantize(raw, one.type, one.shape) for name, (one, raw) in _mapped(path).items()
    }


def _read_safetensors(path: Path, before: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = load_file(path)
    note = read_safetensors_header(path).metadata.get("_quantization_metadata", '{"layers": {}}')
    layers = json.loads(note)["layers"]

    def value(name: str) -> Tensor:
        layer = name.removesuffix(".weight")
        kind = layers.get(layer, {}).get("format", "")
        if kind in FORMATS:
            rows, row = before[name].shape
            parts = {key.removeprefix(f"{layer}."): t for key, t in tensors.items()}
            return dequantize_layer(parts, kind, (rows, row))
        scale = tensors.get(f"{layer}.weight_scale") if kind else None
        return tensors[name].float() if scale is None else tensors[name].float() * scale

    return {name: value(name) for name in before}

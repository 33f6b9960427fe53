"""Our quantisers against those of the gguf package and of ggml, on the same weights."""

from __future__ import annotations

import ctypes
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from ...utils.quantization import ggml_library
from ...utils.quantization.dequantize import dequantize
from ...utils.quantization.ggml_types import GGML_TYPES, row_bytes
from ...utils.quantization.quality import compare as compare_quality
from ...utils.quantization.quantize import quantize_rows
from ..entries import HIGHER, LOWER, Bench, Entry, ratio_entry
from ..pairs import PairPlan, Side, compare, summarize

SHAPE = 1024, 2048
GOAL_Q8_0, GOAL_Q4_K, GOAL_LIBRARY, GOAL_ERROR = 0.9, 0.6, 0.95, 1.01
K_TYPES = ("Q4_K", "Q5_K", "Q6_K")
_PATTERN = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]


def _weights(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(SHAPE, generator=draw) * 0.02).bfloat16()


def measure_quantising(bench: Bench) -> Iterator[Entry]:
    """Compare the speed of quantising bf16 weights."""
    weights = _weights()
    for kind, goal in (("Q8_0", GOAL_Q8_0), ("Q5_0", None), ("Q4_0", None)):
        yield _compared(
            bench,
            f"{kind}: speed / gguf",
            (
                lambda kind=kind: quantize_rows(weights, kind),
                lambda kind=kind: _by_gguf(weights, kind),
            ),
            goal,
            f"Weights per CPU-second, {SHAPE[0]} × {SHAPE[1]} in bf16 → {kind}, over those of gguf "
            f"{_version('gguf')}, whose bytes are the same. One thread each.",
        )
    for kind in K_TYPES:
        goal = GOAL_Q4_K if kind == "Q4_K" else None
        yield _compared(
            bench,
            f"{kind} in torch: speed / ggml",
            (
                lambda kind=kind: quantize_rows(weights, kind),
                lambda kind=kind: _by_ggml(weights, kind),
            ),
            goal,
            f"Weights per CPU-second, {SHAPE[0]} × {SHAPE[1]} in bf16 → {kind}, over those of ggml's "
            f"ggml_quantize_chunk through ctypes (libggml-python {_version('libggml-python')}) from fp32. "
            "One thread each.",
        )


def measure_quality(bench: Bench) -> Iterator[Entry]:
    """Compare the error of K types with that of ggml's blocks."""
    for kind in K_TYPES:
        ratios = []
        for seed in range(5 if bench.quick else 15):
            weights = _weights(seed)
            ours = compare_quality(weights, _decoded(quantize_rows(weights, kind), kind))
            theirs = compare_quality(weights, _decoded(_by_ggml(weights, kind), kind))
            ratios.append(ours.relative_rmse / theirs.relative_rmse)
        yield ratio_entry(
            f"{kind}: error / ggml",
            summarize(ratios),
            GOAL_ERROR,
            LOWER,
            f"Root mean square error of {kind} against the bf16 weights, over that of ggml's blocks; both "
            "decoded by the gguf package. Normally distributed weights.",
        )


def measure_library(bench: Bench) -> Iterator[Entry]:
    """Compare ggml as we call it with a bare call."""
    weights = _weights().float()
    library = ggml_library.find()
    assert library is not None  # or nothing of this area would be measured
    yield _compared(
        bench,
        "Q4_K by ggml: speed / bare call",
        (lambda: library.quantize_rows(weights, "Q4_K"), lambda: _by_ggml(weights, "Q4_K")),
        GOAL_LIBRARY,
        "Weights per CPU-second of ggml's quantiser as Luna calls it, over those of a bare call of "
        "ggml_quantize_chunk through ctypes.",
    )


def measure_dequantising(bench: Bench) -> Iterator[Entry]:
    """Compare the speed of dequantising, as it is done when a weight is used."""
    weights = _weights()
    for kind in ("Q8_0", "Q4_0", *K_TYPES):
        raw = quantize_rows(weights, kind)
        blocks = raw.numpy()
        yield _compared(
            bench,
            f"dequantising {kind}: speed / gguf",
            (
                lambda kind=kind, raw=raw: dequantize(raw, kind, SHAPE),
                lambda kind=kind, blocks=blocks: gguf.quants.dequantize(
                    blocks, gguf.GGMLQuantizationType[kind]
                ),
            ),
            None,
            f"Weights per CPU-second, {SHAPE[0]} × {SHAPE[1]} in {kind} → fp32 on a CPU, over those of gguf "
            f"{_version('gguf')}, whose numbers are the same. One thread each.",
        )


def _compared(
    bench: Bench,
    name: str,
    sides: tuple[Callable[[], object], Callable[[], object]],
    goal: float | None,
    how: str,
) -> Entry:
    """Return how many times as fast the first side is."""
    ours, theirs = sides
    plan = bench.plan if bench.quick else PairPlan(most=30)
    result = compare(_cost(theirs), _cost(ours), plan, bench.tell_pair)
    return ratio_entry(name, result, goal, HIGHER, how)


def _cost(call: Callable[[], object]) -> Side:
    def side() -> float:
        started = time.process_time()
        call()
        return time.process_time() - started

    return side


def _by_gguf(weights: Tensor, kind: str) -> Any:
    return gguf.quants.quantize(weights.float().numpy(), gguf.GGMLQuantizationType[kind])


def _by_ggml(weights: Tensor, kind: str) -> Tensor:
    """Call ggml with nothing around it."""
    library = ggml_library.find()
    assert library is not None
    function = ctypes.CDLL(str(library.path)).ggml_quantize_chunk
    function.argtypes, function.restype = _PATTERN, ctypes.c_size_t
    rows = weights.float().numpy()
    out = np.empty((SHAPE[0], row_bytes(kind, SHAPE[1])), np.uint8)
    function(GGML_TYPES[kind].id, rows.ctypes.data, out.ctypes.data, 0, *SHAPE, None)
    return torch.from_numpy(out)


def _decoded(raw: Tensor, kind: str) -> Tensor:
    return torch.from_numpy(gguf.quants.dequantize(raw.numpy(), gguf.GGMLQuantizationType[kind]))


def _version(package: str) -> str:
    return importlib.metadata.version(package)

"""What a diffusion model can be converted to: one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import InputError

SAFETENSORS, GGUF = "safetensors", "gguf"


@dataclass(frozen=True, slots=True)
class Target:
    """A form of weights on disk.

    Attributes:
        name: What it is called in nodes, on the command line and in sidecars.
        label: What a list shows.
        advice: For which graphics cards, and what it costs and saves.
        container: SAFETENSORS or GGUF.
        folder: Where its files lie, below the folder for diffusion models.
        ending: What follows the name of the source in the name of its file.
        bits: Bits of a weight in the large layers, scales included.
    """

    name: str
    label: str
    advice: str
    container: str
    folder: str
    ending: str
    bits: float

    def file_name(self, base: str, mark: str = "") -> PurePosixPath:
        """Return the place of a file below the folder for diffusion models.

        Args:
            base: The source's name without folder and ending.
            mark: Tells files apart whose sources have the same name.
        """
        stem, dot, suffix = self.ending.rpartition(".")
        return PurePosixPath(self.folder) / f"{base}{stem}{mark and '-'}{mark}{dot}{suffix}"


def _safe(name: str, folder: str, bits: float, advice: str, label: str = "") -> Target:
    ending = "_unet.safetensors" if folder == name else f"_unet_{name}.safetensors"
    return Target(name, label or name, advice, SAFETENSORS, folder, ending, bits)


def _gguf(recipe: str, bits: float, advice: str) -> Target:
    return Target(f"gguf_{recipe}", f"GGUF {recipe}", advice, GGUF, "gguf", f"_{recipe}.gguf", bits)


_ALL = (
    _safe("bf16", "bf16", 16, "RTX 30 and newer. The precision that most models are trained in."),
    _safe("fp16", "fp16", 16, "Any card. The usual precision of SD 1.5 and SDXL."),
    _safe(
        "fp8_e4m3fn",
        "fp8",
        8,
        "RTX 40 and 50. Half of bf16's size; every weight is cut to eight bits as it is.",
    ),
    _safe(
        "fp8_e4m3fn_scaled",
        "fp8",
        8,
        "RTX 40 and 50. Half of bf16's size, and closer to it than plain fp8: each layer has a scale.",
    ),
    _safe(
        "fp8_e5m2",
        "fp8",
        8,
        "RTX 30. Half of bf16's size; more range and fewer digits than e4m3fn.",
    ),
    _safe(
        "mxfp8",
        "fp8",
        8.25,
        "RTX 50. Half of bf16's size; each block of 32 weights has a scale.",
    ),
    _safe(
        "nvfp4",
        "fp4",
        4.5,
        "RTX 50. A quarter of bf16's size; each block of 16 weights has a scale.",
    ),
    _gguf("F16", 16, "Any card. As exact as fp16, for loaders of GGUF."),
    _gguf("BF16", 16, "RTX 30 and newer. As exact as bf16, for loaders of GGUF."),
    _gguf(
        "Q8_0", 8.5, "Any card; on RTX 30 better than fp8. The closest to fp16 at half its size."
    ),
    _gguf("Q6_K", 6.5625, "Any card. Hardly to be told from Q8_0, and a quarter smaller."),
    _gguf("Q5_K_M", 5.7, "Any card. A third of fp16's size, with little loss."),
    _gguf("Q5_0", 5.5, "Any card. A third of fp16's size; Q5_K_M is closer to the original."),
    _gguf("Q4_K_M", 5.0, "Any card, where memory is short. Less than a third of fp16's size."),
    _gguf("Q4_K_S", 4.6, "Any card, where memory is short. A little smaller than Q4_K_M."),
    _gguf("Q4_0", 4.5, "Any card, where memory is short. Q4_K_M is closer to the original."),
    _gguf(
        "IQ4_XS",
        4.4,
        "Any card, where memory is short. Smaller than Q4_K_S, nearly as exact; made by ggml, slowly.",
    ),
    _gguf(
        "Q3_K_M",
        4.0,
        "Any card, where memory is very short. A quarter of fp16's size; made by ggml.",
    ),
)
TARGETS = {target.name: target for target in _ALL}


def find_target(name: str) -> Target:
    """Return a target by its name; upper or lower case, and with or without "gguf_".

    Raises:
        InputError: There is none of that name.
    """
    wanted = name.strip().lower()
    for target in _ALL:
        if wanted in (target.name.lower(), target.name.lower().removeprefix("gguf_")):
            return target
    raise InputError(
        f"There is no precision '{name}'.", f"Choose one of these: {', '.join(TARGETS)}."
    )

"""Settings of known packs' nodes that matter beside their defaults: node → title → values of inputs.

A value that begins with "@" stands for the thing of that type. What is not named here is as for any pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .slots import LARGE_IMAGE, LARGE_LATENT, SDXL_CLIP

Cases = Mapping[str, Mapping[str, Mapping[str, Any]]]

_LORA = "style"
_SCHEDULES = {
    "switch": "a [cat:dog:0.5], (photo:1.2)",
    "three steps": "a [cat:dog:0.3] [:in the rain:0.6] [red|blue:0.1]",
    "LoRA": f"a cat <lora:{_LORA}:0.8>",
    "scheduled LoRA": f"a cat [<lora:{_LORA}:0.8>::0.5] [:<lora:{_LORA}:0.3:0.9>:0.7]",
    "styles": "STYLE(A1111) a (red:1.4) [cat] AND STYLE(comfy++, length) a (blue:0.7) dog :0.5",
    "weights of encoders": "a cat TE(l=dog) BREAK in the rain",
    "shuffle": "SHUFFLE(seed=3) a, b, c SHIFT(1)",
    "cut": "a [CUT:red cat:red] on a blue [CUT:sofa:blue:0.7]",
    "masks": "a cat MASK(0 0.5, 0 1) AND a dog MASK(0.5 1, 0 1, 0.8) FEATHER(4)",
    "areas": "a cat AREA(0 0.5, 0 1) AND a dog AREA(0.5 1, 0 1, 0.8)",
    "couple": "FILL() a room COUPLE(0 0.5, 0 1) a cat COUPLE(0.5 1, 0 1) a dog",
    "averages": "a cat AVG(0.3) a dog",
    "concatenation": "a cat CAT a dog",
    "noise": "a cat NOISE(0.2, 7)",
}
_ENCODERS = "STYLE(A1111) a (cat:1.3) TE(g=a [dog:1.2]) BREAK in the rain"
_TEXTS = {title: {"text": text} for title, text in _SCHEDULES.items()}
_STYLES = ("comfy", "A1111", "compel", "comfy++", "down_weight")
_NORMALIZATIONS = ("none", "mean", "length", "length+mean")
_WEIGHTED = {
    f"{normalization}, {style}": {
        "text": "a (red:1.4) cat, a (blue:0.6) dog",
        "token_normalization": normalization,
        "weight_interpretation": style,
    }
    for normalization in _NORMALIZATIONS
    for style in _STYLES
}
_ENCODED_TILES = {
    "fast tiles": {"tile_size": 256, "fast": True, "pixels": f"@{LARGE_IMAGE}"},
    "slow tiles": {"tile_size": 256, "fast": False, "pixels": f"@{LARGE_IMAGE}"},
}
_DECODED_TILES = {
    "fast tiles": {"tile_size": 384, "fast": True, "samples": f"@{LARGE_LATENT}"},
    "slow tiles": {"tile_size": 384, "fast": False, "samples": f"@{LARGE_LATENT}"},
}
_SDXL = {"SDXL": {"clip": f"@{SDXL_CLIP}"}}
_POWER_LORAS = {
    "two LoRAs": {
        "lora_1": {"on": True, "lora": f"{_LORA}.safetensors", "strength": 0.7},
        "lora_2": {
            "on": True,
            "lora": f"{_LORA}.safetensors",
            "strength": 0.2,
            "strengthTwo": 0.9,
        },
    }
}
_WILDCARDS = {
    "LoRA and weights": {
        "wildcard_text": f"a {{cat|dog}} (photo:1.3) <lora:{_LORA}:0.6:0.8>",
        "populated_text": f"a cat (photo:1.3) <lora:{_LORA}:0.6:0.8>",
    },
    "LoRA with block weights": {
        "wildcard_text": f"a cat <lora:{_LORA}:1:0.5> BREAK in the rain",
        "populated_text": f"a cat <lora:{_LORA}:1:0.5> BREAK in the rain",
    },
}

# Input → what it is set to wherever it is: with its default, the node calls what ComfyUI no longer has.
DEFAULTS: Mapping[str, Any] = {"noise_mask_feather": 0}

# Nodes whose things make what takes them minutes long: it works at 512×512 for this one.
AVOIDED = frozenset({"CoreMLDetailerHookProvider"})

_PARSED = {
    parser: {
        "text": "a (red:1.4) [cat:dog:0.5] AND a ((blue)) sofa",
        "parser": parser,
        "smZ_steps": 2,
    }
    for parser in ("comfy", "comfy++", "A1111", "full", "compel", "fixed attention")
}

CASES: Cases = {
    "PCTextEncode": {**_TEXTS, "SDXL": {"text": _ENCODERS, "clip": f"@{SDXL_CLIP}"}},
    "PCLazyTextEncode": _TEXTS,
    "PCLazyTextEncodeAdvanced": _TEXTS,
    "PCLazyLoraLoader": _TEXTS,
    "PCLazyLoraLoaderAdvanced": _TEXTS,
    "BNK_CLIPTextEncodeAdvanced": _WEIGHTED,
    "BNK_CLIPTextEncodeSDXLAdvanced": _SDXL,
    "VAEEncodeTiled_TiledDiffusion": _ENCODED_TILES,
    "VAEDecodeTiled_TiledDiffusion": _DECODED_TILES,
    "Power Lora Loader (rgthree)": _POWER_LORAS,
    "ImpactWildcardEncode": _WILDCARDS,
    "IPAdapterMS": {"no weights of layers": {"layer_weights": ""}},
    "smZ CLIPTextEncode": {
        **_PARSED,
        "SDXL": {**_PARSED["A1111"], "clip": f"@{SDXL_CLIP}"},
    },
    "CR VAE Decode": {
        "circular": {"circular": True},
        "tiled": {"tiled": True},
    },
    "CLIPNegPip": {"SDXL": {"clip": f"@{SDXL_CLIP}"}},
    "BNK_CutoffRegionsToConditioning_ADV": {
        f"{normalization}, {style}": {
            "token_normalization": normalization,
            "weight_interpretation": style,
            "strict_mask": 0.5,
        }
        for normalization, style in (("mean", "A1111"), ("length", "compel"), ("none", "comfy++"))
    },
    "CLIP Vector Sculptor text encode": {
        method: {"sculptor_method": method, "token_normalization": normalization}
        for method, normalization in (
            ("backward", "mean"),
            ("maximum_absolute", "set at attention"),
            ("add_minimum_absolute", "default * attention"),
        )
    },
}


def cases_of(node: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the known cases of a node, the one with nothing but defaults first."""
    return {"": {}, **CASES.get(node, {})}

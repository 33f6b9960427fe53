"""Which tensors of a model stay in high precision: one row for each architecture.

What a model begins and ends with is small, and an error in it is in everything: patches, time and text on their
way in, and the last layer. So are parameters that are no weight of a layer, which loaders do not expect in a
quantised form. The large layers between them are what conversion is for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """How an architecture's tensors are treated.

    Attributes:
        keep: Finds the names of tensors that stay in high precision.
        skip: Finds the names of tensors that are left out: they are no part of the model.
        convolutional: Is it a U-Net? Its convolutions are large, and their rows short.
    """

    keep: re.Pattern[str]
    skip: re.Pattern[str] | None = None
    convolutional: bool = False

    def keeps(self, name: str) -> bool:
        """Tell whether a tensor stays in high precision."""
        return self.keep.search(name) is not None

    def skips(self, name: str) -> bool:
        """Tell whether a tensor is left out."""
        return self.skip is not None and self.skip.search(name) is not None


def _names(begin: str = "", anywhere: str = "") -> re.Pattern[str]:
    """Find names that begin with one of some modules, or have one of some words in them."""
    starts = [rf"^{re.escape(name)}\." for name in begin.split()]
    return re.compile("|".join([*starts, *map(re.escape, anywhere.split())]))


_UNET = _names("input_blocks.0.0 time_embed label_emb out")
# Flux 2, Chroma and HunyuanVideo are built alike.
_FLUX = _names(
    "img_in txt_in time_in vector_in guidance_in final_layer distilled_guidance_layer byt5_in vision_in"
)
ARCHITECTURES = {
    "sd1": Architecture(_UNET, convolutional=True),
    "sdxl": Architecture(_UNET, convolutional=True),
    "sd3": Architecture(
        _names("x_embedder context_embedder t_embedder y_embedder final_layer", "pos_embed")
    ),
    "flux": Architecture(_FLUX),
    "hyvid": Architecture(_FLUX),
    "lumina2": Architecture(
        _names(
            "x_embedder cap_embedder t_embedder final_layer noise_refiner context_refiner",
            "pad_token",
        )
    ),
    "qwen_image": Architecture(_names("img_in txt_in time_text_embed norm_out proj_out")),
    "wan": Architecture(
        _names(
            "patch_embedding text_embedding time_embedding time_projection head img_emb",
            "modulation",
        )
    ),
    "ltxv": Architecture(
        _names("proj_out audio_proj_out", "patchify_proj. adaln_single. caption_projection. _table")
    ),
    "aura": Architecture(
        _names(
            "init_x_linear cond_seq_linear t_embedder modF final_linear",
            "positional_encoding register_tokens",
        )
    ),
    "hidream": Architecture(
        _names(
            "x_embedder t_embedder p_embedder caption_projection final_layer img_emb", ".ff_i.gate."
        )
    ),
    "cosmos": Architecture(
        _names("x_embedder t_embedder t_embedding_norm final_layer", "pos_embedder"),
        skip=_names("", "_extra_state accum_"),
    ),
}
# A model that no loader of GGUF files knows. For other precisions the usual words in names have to do.
UNKNOWN = Architecture(
    _names("head out", "embed norm final _in. proj_out. _table modulation token pos_")
)


def find_architecture(name: str) -> Architecture:
    """Return how an architecture is treated."""
    return ARCHITECTURES.get(name, UNKNOWN)

"""What a run takes beside the weights, estimated from shapes before it begins.

Weights are known to the byte; activations grow with the texts or pixels of a request. The widest layers
decide, and all numbers in here come from measuring, with the hf engine on a CPU in fp32, the largest sum
of all live tensors during one call (exact for text encoders of 768 and 1280 channels with 4 to 12 layers,
and for SD's VAE in full size, half and a quarter of its channels, 64 to 512 pixels):

* text encoder: tokens x (3 x inner width + (layers + 2) x width) elements per text, since the states of
  all layers are kept;
* VAE: 3 x the widest layer at full resolution for a decoded pixel, 5 x for an encoded one.

Convolutions and matrix products take work space of their own; resident memory rose by 1.5 to 2.2 times
as much as the tensors took (`WORK_SPACE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..protocol.work import AnyWork, DecodeLatent, EncodeImage, EncodeText, Tiling
from ..protocol.worker_messages import ActivationUnits, ModelSpec

WORK_SPACE = 2.2
MOST_TEXTS_AT_ONCE = 8  # the largest batch that an engine makes of texts
# What is kept free for a model's first request, before any has told how large requests are.
FIRST_PICTURE_PX = 512 * 512

_DECODER_LAYERS = 3
_ENCODER_LAYERS = 5
_INNER_LAYERS = 3


def units_of(
    role: str, shapes: Mapping[str, tuple[int, ...]], element_bytes: int
) -> ActivationUnits:
    """Return what one text or pixel takes in a model, from the shapes of its weights.

    Args:
        role: clip_l, clip_g, vae, …
        shapes: Weight name → shape, as the file has them.
        element_bytes: Of one number of the activations.
    """
    measure = _vae_units if role == "vae" else _text_units
    return measure(shapes, element_bytes * WORK_SPACE)


def estimate(
    work: AnyWork, models: Iterable[ModelSpec], shapes: Sequence[tuple[int, ...]], *, single: bool
) -> int:
    """Return the bytes that one request takes beside the weights; 0 when they are not known.

    Args:
        work: What is asked for.
        models: What it runs on.
        shapes: Of the request's tensors.
        single: Does the engine take the items of a batch one by one?
    """
    units = [model.activation for model in models]
    if isinstance(work, EncodeText):
        texts = min(len(work.texts), MOST_TEXTS_AT_ONCE)
        return texts * sum(unit.text for unit in units)
    return max((_of_pixels(work, unit, shapes, single) for unit in units), default=0)


def first_guess(model: ModelSpec) -> int:
    """Return what to keep free for a model that nobody has used yet: one text, or one picture."""
    units = model.activation
    return max(units.text, FIRST_PICTURE_PX * max(units.decoded_pixel, units.encoded_pixel))


def _of_pixels(
    work: AnyWork, unit: ActivationUnits, shapes: Sequence[tuple[int, ...]], single: bool
) -> int:
    if isinstance(work, DecodeLatent) and _is_batch(shapes, work.latent):
        items, _, height, width = shapes[work.latent]
        pixels = height * width * unit.cell_side_px**2
        return _items(items, single, work.tiling) * unit.decoded_pixel * _tile(pixels, work.tiling)
    if isinstance(work, EncodeImage) and _is_batch(shapes, work.image):
        items, height, width, _ = shapes[work.image]
        pixels = height * width
        return _items(items, single, work.tiling) * unit.encoded_pixel * _tile(pixels, work.tiling)
    return 0


def _is_batch(shapes: Sequence[tuple[int, ...]], index: int) -> bool:
    return index < len(shapes) and len(shapes[index]) == 4


def _items(items: int, single: bool, tiling: Tiling | None) -> int:
    return 1 if single or tiling is not None else items


def _tile(pixels: int, tiling: Tiling | None) -> int:
    return pixels if tiling is None else min(pixels, tiling.tile**2)


def _text_units(shapes: Mapping[str, tuple[int, ...]], element_bytes: float) -> ActivationUnits:
    positions = _find(shapes, "embeddings.position_embedding.weight")
    inner = _find(shapes, "layers.0.mlp.fc1.weight")
    layers = _count(shapes, "layers.", "mlp.fc1.weight")
    if len(positions) != 2 or len(inner) != 2:
        return ActivationUnits()
    tokens, width = positions
    elements = tokens * (_INNER_LAYERS * inner[0] + (layers + 2) * width)
    return ActivationUnits(text=int(elements * element_bytes))


def _vae_units(shapes: Mapping[str, tuple[int, ...]], element_bytes: float) -> ActivationUnits:
    levels = _count(shapes, "decoder.up_blocks.", "resnets.0.conv1.weight")
    widest = _find(shapes, f"decoder.up_blocks.{levels - 1}.resnets.0.conv1.weight")
    first = _find(shapes, "encoder.conv_in.weight")
    if len(widest) != 4 or len(first) != 4:
        return ActivationUnits()
    return ActivationUnits(
        decoded_pixel=int(_DECODER_LAYERS * max(widest[:2]) * element_bytes),
        encoded_pixel=int(_ENCODER_LAYERS * first[0] * element_bytes),
        cell_side_px=2 ** (levels - 1),
    )


def _find(shapes: Mapping[str, tuple[int, ...]], ending: str) -> tuple[int, ...]:
    """Return the shape of the weight whose name ends so; () without one."""
    return next((shape for name, shape in shapes.items() if name.endswith(ending)), ())


def _count(shapes: Mapping[str, tuple[int, ...]], before: str, ending: str) -> int:
    """Return how many numbers stand between `before` and `ending` in names."""
    middles = (name.rpartition(before)[2] for name in shapes if before in name)
    return sum(middle.partition(".")[2] == ending for middle in middles)

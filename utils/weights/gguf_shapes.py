"""Shapes of GGUF files that are not those of the model. Standard library only.

stable-diffusion.cpp stores as convolutions what SDXL has as linear layers; ComfyUI tells by them which model it is.
Its files do not name an architecture.
"""

from __future__ import annotations

from .contents import Shapes
from .diffusion_models import model_prefix
from .families import describe_model
from .gguf_header import GgufHeader

_ATTENTION_ENDS = (".proj_in.weight", ".proj_out.weight")


def model_shapes(header: GgufHeader) -> Shapes:
    """Return the shapes that a file's tensors have in the model, by their names in the file."""
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    if header.architecture:
        return shapes
    prefix = model_prefix(shapes)
    below = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    model = describe_model(below)
    if model is None or model.architecture != "sdxl":
        return shapes
    return {
        name: shape[:2] if name.endswith(_ATTENTION_ENDS) and shape[2:] == (1, 1) else shape
        for name, shape in shapes.items()
    }

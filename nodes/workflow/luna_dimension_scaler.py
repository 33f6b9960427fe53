"""Luna Dimension Scaler: a size that the model draws well. The arithmetic is in utils/images/dimensions.py."""

from __future__ import annotations

from comfy_api.latest import io

from ...utils.images.dimensions import MODEL_TYPES, ScaleMode, Size, scale, trained_size
from ..schema import node_schema


class LunaDimensionScaler(io.ComfyNode):
    """Width and height → the nearest size that the model handles well."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaDimensionScaler",
            display_name="Luna Dimension Scaler",
            category="Luna/Workflow",
            description="Turns a size into one that a model draws well: its longest side, its area, or the "
            "nearest of the sizes that it was trained on. Use it before an empty latent.",
            search_aliases=["resolution", "aspect ratio", "bucket", "image size"],
            inputs=[
                _side("width", "Wanted width in pixels."),
                _side("height", "Wanted height in pixels."),
                io.Combo.Input(
                    "model_type",
                    options=list(MODEL_TYPES),
                    default="SDXL",
                    tooltip="What the model was trained on; Custom: a square of custom_max_size.",
                ),
                io.Int.Input(
                    "custom_max_size",
                    default=1024,
                    min=256,
                    max=4096,
                    step=64,
                    tooltip="Custom only: the side of the square that the model was trained on, in pixels.",
                ),
                io.Int.Input(
                    "round_to",
                    default=8,
                    min=1,
                    max=64,
                    tooltip="Both sides are made multiples of this. Buckets stay as they are.",
                ),
                io.Combo.Input(
                    "mode",
                    options=[mode.value for mode in ScaleMode],
                    default=ScaleMode.FIT.value,
                    optional=True,
                    tooltip="fit: makes smaller where the longer side is too long. keep area: makes smaller or "
                    "larger, to the area of the training. bucket: the trained size of the nearest shape.",
                ),
            ],
            outputs=[
                io.Int.Output("width", tooltip="In pixels."),
                io.Int.Output("height", tooltip="In pixels."),
            ],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        model_type: str,
        custom_max_size: int,
        round_to: int,
        mode: str = ScaleMode.FIT.value,
    ) -> io.NodeOutput:
        trained = trained_size(model_type, custom_max_size)
        return io.NodeOutput(*scale(Size(width, height), trained, ScaleMode(mode), round_to))


def _side(name: str, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=1024, min=64, max=16384, step=8, tooltip=tooltip)


NODES = [LunaDimensionScaler]

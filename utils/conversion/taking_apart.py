"""The text encoders and the VAE of a checkpoint as files of their own, which other workflows can share."""

from __future__ import annotations

from pathlib import Path

from .converting import ALONE, Converted, Goal, found_again, make_file
from .locations import find_converted, place_for
from .safetensors_recipes import copied_plan
from .source import Source, open_parts
from .source_files import located
from .streaming import Run
from .targets import SAFETENSORS, Target

VAE = "vae"


def take_apart(
    checkpoint: Path,
    models: Path,
    run: Run = ALONE,
) -> dict[str, Converted]:
    """Write what is baked into a checkpoint as ComfyUI's loaders for single models take it, bit for bit as it is.

    Args:
        checkpoint: As safetensors.
        models: The models folder: text encoders go to `text_encoders/<name>_<kind>.safetensors` below it, the
            VAE to `vae/<name>_vae.safetensors`. What was taken out before is found.
        run: Who waits for it.

    Returns:
        Kind, such as "clip_l" or "vae" → its file.

    Raises:
        ConversionRefusedError: There is nothing to take out.
        LunaError: As `converting.converted_once`.
    """
    path = located(checkpoint)
    return {kind: _taken(part, kind, models, run) for kind, part in open_parts(path).items()}


def _taken(part: Source, kind: str, models: Path, run: Run) -> Converted:
    folder = VAE if kind == VAE else "text_encoders"
    target = Target(kind, kind, "", SAFETENSORS, folder, f"_{kind}.safetensors", 0)
    goal = Goal(
        target,
        lambda identity: find_converted(part.path, identity, target, models),
        lambda: place_for(part.path, target, models),
    )
    found = goal.find(part.identity)
    if found is not None:
        return found_again(found)
    return make_file(part, copied_plan(part), goal, run)

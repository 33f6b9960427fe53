"""What the three workflows of the demonstration do, and with which models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...utils.model_types import MODEL_TYPES
from ..errors import NotFoundError

_NEGATIVE = "blurry, low quality, watermark"
_PROMPTS = {
    "char_gen": ("a knight in silver armor", "an old fisherman, portrait", "a red fox in a scarf"),
    "bg_gen": ("a castle on a cliff at dawn", "a quiet harbor in the fog", "a red fox in a scarf"),
    "testing": ("a bowl of fruit on a table", "a city street at night", "a lighthouse in a storm"),
}


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """One workflow: its models, its texts and its latents.

    Attributes:
        models: role → component folder.
        prompts: Encoded one after the other; the negative prompt comes before each of them.
        latent_shape: [B, C, h, w] of the latents that are decoded, one for each prompt.
        seed: Of the latents.
    """

    name: str
    model_type: str
    models: dict[str, str]
    prompts: tuple[str, ...]
    latent_shape: tuple[int, int, int, int]
    seed: int

    @property
    def calls(self) -> int:
        """Calls that the workflow makes: two encodes and a decode a prompt, and one image encode."""
        return 3 * len(self.prompts) + 1

    def texts(self) -> list[str]:
        """Return the texts in the order in which they are encoded."""
        return [text for prompt in self.prompts for text in (_NEGATIVE, prompt)]


def find_repositories(folder: Path) -> list[Path]:
    """Return the model repositories in diffusers' layout in or below a folder, sorted by path.

    Raises:
        NotFoundError: There is none.
    """
    found = sorted(
        path.parent for path in folder.glob("**/model_index.json") if (path.parent / "vae").is_dir()
    )
    if not found:
        raise NotFoundError(
            f"There is no model repository in diffusers' layout below {folder}.",
            "It has a model_index.json and the folders tokenizer, text_encoder and vae.",
        )
    return found


def make_plan(repositories: Sequence[Path], image_px: int, rounds: int) -> list[WorkflowPlan]:
    """Return three workflows: two share their text encoders where they can, and all share one VAE.

    Args:
        repositories: Diffusers-layout folders; an SDXL one and an SD1.5 one are taken if there are both.
        image_px: Side of the decoded images in pixels.
        rounds: How often each workflow goes through its prompts.
    """
    by_type = {_type_of(repository): repository for repository in reversed(repositories)}
    main = by_type.get("SDXL", repositories[0])
    other = by_type.get("SD1.5", main)
    vae = main / "vae"
    config = json.loads((vae / "config.json").read_text("utf-8"))
    side = image_px // 2 ** (len(config["block_out_channels"]) - 1)
    plans = []
    for number, (name, repository) in enumerate(
        (("char_gen", main), ("bg_gen", main), ("testing", other))
    ):
        models = {**_text_encoders(repository), "vae": str(vae)}
        shape = (1, int(config["latent_channels"]), side, side)
        plans.append(
            WorkflowPlan(
                name, _type_of(repository), models, _PROMPTS[name] * rounds, shape, seed=number
            )
        )
    return plans


def write_plan(plan: WorkflowPlan, path: Path) -> None:
    """Write a plan for the process that carries it out."""
    path.write_text(json.dumps(asdict(plan)), "utf-8")


def read_plan(path: Path) -> WorkflowPlan:
    """Read what `write_plan` wrote."""
    fields = json.loads(path.read_text("utf-8"))
    fields["prompts"] = tuple(fields["prompts"])
    fields["latent_shape"] = tuple(fields["latent_shape"])
    return WorkflowPlan(**fields)


def _type_of(repository: Path) -> str:
    return "SDXL" if (repository / "text_encoder_2").is_dir() else "SD1.5"


def _text_encoders(repository: Path) -> dict[str, str]:
    folders = ("text_encoder", "text_encoder_2")
    roles = MODEL_TYPES[_type_of(repository)].text_encoders
    return {role: str(repository / folder) for role, folder in zip(roles, folders, strict=False)}

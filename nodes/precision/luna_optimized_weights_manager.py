"""Luna Optimized Weights Manager: what was converted, and removing what is no longer used."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...utils.conversion.housekeeping import Action, manage
from ..schema import node_schema
from .model_places import existing_folder


class LunaOptimizedWeightsManager(io.ComfyNode):
    """Lists and removes converted files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaOptimizedWeightsManager",
            display_name="Luna Optimized Weights Manager",
            category="Luna/Precision",
            description="Lists the files that were converted by Luna's nodes, with sizes and last use, and removes old "
            "ones. Files that others made are never touched. As long as dry_run is on it only says what it would remove.",
            search_aliases=["disk space", "clean up", "delete converted", "cache", "purge"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "action",
                    options=[action.value for action in Action],
                    default=Action.LIST.value,
                    tooltip="list: every file. stats: numbers and sizes by precision. clear_old: remove what was not "
                    "used for days_old days. purge_all: remove all, which needs 'confirm' too.",
                ),
                io.String.Input(
                    "weights_directory",
                    default="",
                    optional=True,
                    tooltip="A folder below ComfyUI's folders for diffusion models; folders below it count. Empty: "
                    "models/unet.",
                ),
                io.Int.Input(
                    "days_old",
                    default=30,
                    min=1,
                    max=365,
                    optional=True,
                    tooltip="For clear_old: files that were not used for so many days.",
                ),
                io.Boolean.Input(
                    "dry_run",
                    default=True,
                    optional=True,
                    tooltip="Only say what would be removed.",
                ),
                io.String.Input(
                    "confirm",
                    default="",
                    optional=True,
                    tooltip="For purge_all without dry_run: write the word delete.",
                ),
            ],
            outputs=[io.String.Output("report", tooltip="What there is, or what was removed.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")  # files come and go

    @classmethod
    def execute(
        cls,
        action: str,
        weights_directory: str = "",
        days_old: int = 30,
        dry_run: bool = True,
        confirm: str = "",
    ) -> io.NodeOutput:
        folder = existing_folder(weights_directory)
        report = manage(folder, Action(action), days=days_old, dry=dry_run, confirm=confirm)
        return io.NodeOutput(report, ui=ui.PreviewText(report))


NODES = [LunaOptimizedWeightsManager]

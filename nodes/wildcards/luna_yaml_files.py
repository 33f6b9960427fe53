"""Luna YAML Path Explorer and Luna YAML Injector: what is in the files of wildcards, and more for them."""

from __future__ import annotations

import itertools
from typing import Any

from comfy_api.latest import io, ui

from ...utils.errors import InputError
from ...utils.wildcards.documents import JSON, YAML
from ...utils.wildcards.errors import Remark
from ...utils.wildcards.injection import ListStyle, inject, split_items, write
from ...utils.wildcards.paths import files_of, paths_of
from ...utils.wildcards.report import shown
from ..lora.lora_files import NO_FILE
from ..schema import node_schema
from ..wildcard_folders import register_wildcards, wildcard_file, wildcard_library
from .wildcard_inputs import directory_input

register_wildcards()
MAX_CHOICES = 2000  # of files in a combo; any other may be named over the API
MAX_LISTED = 5000


class LunaYAMLPathExplorer(io.ComfyNode):
    """What a file of wildcards has."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaYAMLPathExplorer",
            display_name="Luna YAML Path Explorer",
            category="Luna/Wildcards/Utils",
            description="Lists the paths of a YAML or JSON file of wildcards: which keys there are, how many values "
            "each has, and how to write them in a prompt. Without a file it lists all files.",
            search_aliases=["wildcard files", "yaml tree", "wildcard paths", "browse wildcards"],
            inputs=[
                _file("yaml_file", (*YAML, JSON), "The file; None lists all files of the folder."),
                io.Int.Input(
                    "max_depth", default=4, min=1, max=10, tooltip="How many keys deep it looks."
                ),
                io.Boolean.Input(
                    "show_item_counts",
                    default=True,
                    tooltip="How many values each path has, and what single values are.",
                ),
                directory_input("Where the file is."),
            ],
            outputs=[io.String.Output("paths", tooltip="The paths, one a line.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, yaml_file: str) -> bool:
        return True  # a file may have come since the page was loaded; execute says what is wrong

    @classmethod
    def fingerprint_inputs(cls, yaml_directory: str = "", **_: Any) -> Any:
        return wildcard_library(yaml_directory or "").generation()

    @classmethod
    def execute(
        cls,
        yaml_file: str,
        max_depth: int = 4,
        show_item_counts: bool = True,
        yaml_directory: str = "",
    ) -> io.NodeOutput:
        library = wildcard_library(yaml_directory)
        remarks: list[Remark] = []
        if yaml_file == NO_FILE:
            lines = files_of(library.index(limit=MAX_LISTED))
        else:
            document = wildcard_library().document_of(
                wildcard_file(yaml_file, yaml_directory), remarks
            )
            if document is None:
                raise InputError(f"'{yaml_file}' cannot be read: {' '.join(map(str, remarks))}")
            lines = paths_of(document, max_depth, counts=show_item_counts)
        text = "\n".join(lines)
        return io.NodeOutput(text, ui=ui.PreviewText(shown(lines, map(str, remarks))))


class LunaYAMLInjector(io.ComfyNode):
    """More values for a file of wildcards."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaYAMLInjector",
            display_name="Luna YAML Injector",
            category="Luna/Wildcards/Utils",
            description="Adds values to a list of a YAML file of wildcards, or makes a new list. Comments, order and "
            "everything else in the file stay as they are; the file before the change is kept beside it as .bak. "
            "Nothing is written while preview_only is on.",
            search_aliases=["add wildcards", "edit yaml", "csv to yaml", "wildcard editor"],
            inputs=[
                io.String.Input(
                    "csv_input",
                    default="",
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip="The values, with commas, semicolons or line ends between them. Commas in {…}, <…> and "
                    "quotes do not count.",
                ),
                _file("target_yaml", YAML, "The file that is changed."),
                io.String.Input(
                    "target_path",
                    default="",
                    tooltip="Keys with dots between them, such as 'tops.winter'. What is not there is made.",
                ),
                io.String.Input(
                    "new_category",
                    default="",
                    tooltip="A key below target_path that becomes exactly these values. Empty: they are added to the "
                    "list at target_path.",
                ),
                io.Combo.Input(
                    "format",
                    options=[style.value for style in ListStyle],
                    default=ListStyle.LIST.value,
                    tooltip="How a new list is written: a line for each value, or [a, b]. Lists that are there stay "
                    "as they are written.",
                ),
                directory_input("Where the file is."),
                io.Boolean.Input(
                    "preview_only",
                    default=True,
                    optional=True,
                    tooltip="Only show what would be written. Off: write it.",
                ),
                io.Boolean.Input(
                    "underscores",
                    default=True,
                    optional=True,
                    tooltip="Spaces inside values become underscores.",
                ),
            ],
            outputs=[
                io.String.Output("yaml_preview", tooltip="The whole file with the change."),
                io.String.Output("status", tooltip="What was done, or would be."),
                io.Boolean.Output("success", tooltip="Is there anything new in the file?"),
            ],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, target_yaml: str) -> bool:
        return True  # as above

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        return float("nan")  # the file may have changed in every way

    @classmethod
    def execute(
        cls,
        csv_input: str,
        target_yaml: str,
        target_path: str = "",
        new_category: str = "",
        format: str = ListStyle.LIST.value,
        yaml_directory: str = "",
        preview_only: bool = True,
        underscores: bool = True,
    ) -> io.NodeOutput:
        path = wildcard_file(target_yaml, yaml_directory)
        items = split_items(csv_input, underscores=underscores)
        done = inject(path.read_bytes(), items, target_path, new_category, ListStyle(format))
        status = f"{len(done.added)} new: {', '.join(done.added) or 'nothing'}."
        if done.skipped:
            status += f" There already: {', '.join(done.skipped)}."
        if done.added and not preview_only:
            backup = write(path, done)
            status += f" Written to '{path.name}'; what it was is in '{backup.name}'."
        elif done.added:
            status += " Not written: preview_only is on."
        preview = ui.PreviewText(f"{status}\n\n{done.preview}")
        return io.NodeOutput(done.after, status, bool(done.added), ui=preview)


def _file(name: str, suffixes: tuple[str, ...], tooltip: str) -> io.Input:
    fitting = (
        file
        for file in wildcard_library().structured_files()
        if file.lower().endswith(suffixes) and not file.rpartition("/")[2].startswith("_")
    )
    files = sorted(set(itertools.islice(fitting, MAX_CHOICES)))
    return io.Combo.Input(
        name,
        options=[NO_FILE, *files],
        default=NO_FILE,
        tooltip=tooltip,
    )


NODES = [LunaYAMLPathExplorer, LunaYAMLInjector]

"""Reports about LoRAs as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .inspection import LoraFile
from .prompt_lists import WantedLora

_MANY = 8


def list_report(file: str, wanted: Sequence[WantedLora]) -> str:
    """Say which LoRAs of a list are there."""
    missing = [each for each in wanted if not each.file]
    lines = [f"'{file}': {len(wanted)} LoRAs, {len(missing)} of them missing."]
    lines += [f"missing   {each.name} ({_times(each.uses)}): {each.problem}" for each in missing]
    lines += [
        f"found     {each.name} ({_times(each.uses)}): {each.file}" for each in wanted if each.file
    ]
    return "\n".join(lines)


def file_report(files: Sequence[LoraFile]) -> str:
    """Say what LoRA files are, those with problems first."""
    damaged = [file for file in files if file.problems]
    lines = [f"{len(files)} LoRA files, {len(damaged)} of them with problems."]
    for file in (*damaged, *(file for file in files if not file.problems)):
        lines += ["", *_of_file(file)]
    return "\n".join(lines)


def _of_file(file: LoraFile) -> Iterable[str]:
    yield file.name
    for problem in file.problems:
        yield f"  problem     {problem}"
    if not file.tensors:
        return
    yield f"  base model  {file.base_model}"
    yield f"  kinds       {_counted(file.kinds) or 'none'}"
    yield f"  rank        {_counted(file.ranks) or 'none'}"
    alphas = [f"{alpha:g}" for alpha in file.alphas]
    yield f"  alpha       {_shortened(alphas) or 'none: as the rank'}"
    yield f"  dtype       {_counted(file.dtypes)}"
    yield f"  tensors     {file.tensors}, {file.total_bytes / 1e6:.1f} MB"
    if file.unknown:
        yield f"  unknown     {_counted(file.unknown)}"


def _counted(counts: Mapping[object, int] | Mapping[str, int] | Mapping[int, int]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return _shortened([f"{value} ({count} ×)" for value, count in counts.items()])


def _shortened(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _MANY} more" if len(parts) > _MANY else ""
    return ", ".join(parts[:_MANY]) + more


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"

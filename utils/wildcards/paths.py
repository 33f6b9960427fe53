"""The paths of a file of wildcards, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from .indexing import IndexPage
from .values import Branch, Document, Part

MAX_VALUE = 80  # characters of a single value that are shown


def paths_of(document: Document, levels: int, *, counts: bool) -> list[str]:
    """Return `path [n items]` for lists, `path/ (n items)` for branches and `path = value` for single values.

    Args:
        document: The file.
        levels: How many keys deep.
        counts: With the numbers, and with single values.
    """
    name = document.file[: document.file.rfind(".")]
    total = sum(len(values) for _, values in document.lists())
    head = [
        f"# {document.file}: {total} values",
        f"# As a wildcard: {{{name}:path}} or __{name}/path__, with / between keys in the second form",
    ]
    if document.templates is not None:
        head.append(f"# Templates: {{{name}}}")
    root = document.root
    if not isinstance(root, Branch):
        return [*head, f"(a list) [{len(root)} items]"]
    return [*head, *sorted(_lines(root, levels, counts))]


def files_of(page: IndexPage) -> list[str]:
    """Return the files of a library, a line for each."""
    rest = page.total - len(page.entries)
    lines = [f"# {page.total} files", *(f"{entry.name}  ({entry.file})" for entry in page.entries)]
    return [*lines, f"# … and {rest} more"] if rest else lines


def _lines(branch: Branch, levels: int, counts: bool) -> Iterator[str]:
    for key, part in branch.children.items():
        path = f"{branch.path}.{key}" if branch.path else key
        if not isinstance(part, Branch):
            if not counts:
                yield path
            elif len(part) == 1:
                value = " ".join(part.texts[0].split())
                yield f"{path} = {value[:MAX_VALUE]}{'…' if len(value) > MAX_VALUE else ''}"
            else:
                yield f"{path} [{len(part)} items]"
            continue
        yield f"{path}/ ({_size(part)} items)" if counts else f"{path}/"
        if levels > 1:
            yield from _lines(part, levels - 1, counts)


def _size(part: Part) -> int:
    if isinstance(part, Branch):
        return sum(map(_size, part.children.values()))
    return len(part)

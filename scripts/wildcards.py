"""`luna.py wildcards`: checks a folder of wildcards, or shows what a text can become.

Run it with the interpreter of .venv: python scripts/wildcards.py lint models/wildcards
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
USAGE_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Run the command; 1 when `lint` has found something or a text cannot be expanded."""
    sys.path.insert(0, str(ROOT / "luna_daemon"))
    importlib.import_module("package_alias").load_package()
    sys.path.pop(0)
    wildcards = importlib.import_module("luna_collection.utils.wildcards")
    options = _parser(list(wildcards.DIALECTS)).parse_args(arguments)
    folders = [options.folder] if options.command == "lint" else options.folder
    for folder in folders:
        if not folder.is_dir():
            print(f"There is no folder {folder}.")
            return USAGE_ERROR
    library = wildcards.Library(folders)
    dialect = wildcards.find_dialect(options.dialect)
    try:
        if options.command == "lint":
            return _lint(library, dialect)
        return _sample(wildcards, library, dialect, options)
    except wildcards.WildcardError as error:
        print(error)
        return 1


def _lint(library: Any, dialect: Any) -> int:
    lint = importlib.import_module("luna_collection.utils.wildcards.lint").lint
    remarks = lint(library, dialect)
    for remark in remarks:
        print(remark)
    files = library.index(limit=0).total
    print(f"{files} names, {len(remarks) or 'no'} remarks")
    return 1 if remarks else 0


def _sample(wildcards: Any, library: Any, dialect: Any, options: argparse.Namespace) -> int:
    warnings: dict[Any, None] = {}
    for item in wildcards.batch(options.text, options.seed, options.count, library, dialect):
        print(item.text)
        warnings.update(dict.fromkeys(item.warnings))
    for warning in warnings:
        print(warning, file=sys.stderr)
    return 0


def _parser(dialects: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="luna.py wildcards", description="Check wildcards, or try them."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lint = commands.add_parser("lint", help="name everything that is wrong, by file and line")
    lint.add_argument("folder", type=Path, metavar="DIR")
    sample = commands.add_parser("sample", help="show what a text can become")
    sample.add_argument("text")
    sample.add_argument("folder", type=Path, nargs="*", metavar="DIR")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--count", type=int, default=20)
    for command in (lint, sample):
        command.add_argument("--dialect", choices=dialects, default=dialects[0])
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

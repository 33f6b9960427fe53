"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from luna_collection.luna_daemon.config_sources import settings_table
from luna_collection.luna_daemon.errors import BY_CODE
from luna_collection.luna_daemon.monitoring.metric_families import metrics_table
from luna_collection.luna_daemon.protocol import messages, work, worker_messages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for top in ("luna_daemon", "utils", "nodes")
    for path in (ROOT / top).rglob("*.py")
    if path.name != "__init__.py"
)


def wire_names() -> list[str]:
    unions = (
        *(
            messages.ToDaemon,
            messages.ToClient,
            worker_messages.ToWorker,
            worker_messages.FromWorker,
        ),
        *(work.AnyWork, work.AnyResult),
    )
    kinds = {kind for union in unions for kind in union.__args__}
    return sorted({str(msgspec.inspect.type_info(kind).tag) for kind in kinds})


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_file_has_its_line_in_the_architecture(source: str) -> None:
    folder, _, name = source.rpartition("/")
    text = (DOCS / "architecture.md").read_text("utf-8")
    section = re.search(
        rf"^### `{re.escape(folder)}/`.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert section, f"docs/architecture.md has no section for {folder}/"
    assert f"`{name}`" in section.group(), f"docs/architecture.md does not name {source}"


def test_the_architecture_names_no_file_that_is_gone() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    for section in re.finditer(r"^### `([^`]+)/`(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        for name in re.findall(r"^\| `([^`]+\.py)`", section.group(2), re.MULTILINE):
            assert (ROOT / section.group(1) / name).is_file(), f"{section.group(1)}/{name} is gone"


@pytest.mark.parametrize("name", wire_names())
def test_every_message_is_described_in_the_protocol(name: str) -> None:
    assert f"`{name}`" in (DOCS / "protocol.md").read_text("utf-8")


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_code_is_described_in_the_protocol(code: str) -> None:
    row = rf"^\| {code} \| {'yes' if BY_CODE[code].retryable else ''} ?\|"
    assert re.search(row, (DOCS / "protocol.md").read_text("utf-8"), re.MULTILINE)


def test_the_table_of_settings_is_the_one_that_the_code_gives() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    assert settings_table() in text, "run: python scripts/write_settings_doc.py"


def test_the_table_of_metrics_is_the_one_that_the_code_gives() -> None:
    text = (DOCS / "monitoring.md").read_text("utf-8")
    assert metrics_table() in text, "run: python scripts/write_monitoring_doc.py"

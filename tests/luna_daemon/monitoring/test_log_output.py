"""The daemon's log: its two forms, whose request a line is about, and a disk that is full."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from luna_collection.luna_daemon.monitoring.log_output import (
    JSON,
    TEXT,
    JsonFormatter,
    LogFile,
    TextFormatter,
    add_request,
    set_up_logging,
)
from luna_collection.luna_daemon.monitoring.request_trace import Trace, tracing
from luna_collection.utils.log import get_logger

TRACE = Trace(session=3, request=17, operation="decode_latent", workflow_id="portraits")


@pytest.fixture
def no_traces_left() -> Iterator[None]:
    """Loggers of the process as they were before."""
    loggers = [logging.getLogger(name) for name in ("luna", "asyncio")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def record(message: str, *args: Any, trace: Trace | None = None, **fields: Any) -> Any:
    made = logging.LogRecord("luna.work", logging.WARNING, "f.py", 1, message, args, None)
    vars(made).update(fields)
    with tracing(trace):
        assert add_request(made) is True
    return made


def failed() -> Any:
    try:
        raise ValueError("it\nbroke")
    except ValueError:
        return sys.exc_info()


def test_a_line_of_text_ends_with_the_request_that_it_is_about() -> None:
    line = TextFormatter().format(record("loaded in %.1f s", 2.0, trace=TRACE))
    assert re.fullmatch(
        r"[-\d]+ [:,\d]+ WARNING luna\.work: loaded in 2\.0 s \[wf portraits session 3 request 17\]",
        line,
    )


def test_a_line_about_no_request_ends_with_its_message() -> None:
    assert TextFormatter().format(record("ready")).endswith("luna.work: ready")


def test_a_request_without_a_workflow_names_none() -> None:
    line = TextFormatter().format(record("pong", trace=Trace(1, 2, "ping")))
    assert line.endswith("pong [session 1 request 2]")


def test_names_of_clients_make_no_lines_and_no_colours_of_their_own() -> None:
    evil = "x]\n2026-01-01 00:00:00,000 ERROR luna.daemon: stopped\r\x1b[31m\u2028\x85"
    text = TextFormatter().format(record("%s", evil, trace=Trace(1, 2, "ping", evil)))
    assert [line[:4] for line in text.split("\n")[1:]] == ["    "] * 2
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert "\\x1b[31m\\u2028\\x85" in text


def test_a_traceback_is_indented_below_its_line() -> None:
    text = TextFormatter().format(record("it failed", exc_info=failed(), trace=TRACE))
    first, *others = text.split("\n")
    assert first.endswith("it failed [wf portraits session 3 request 17]")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in others)


def test_a_line_of_json_has_time_level_logger_message_and_extras() -> None:
    made = record("took %d s", 12, trace=TRACE, total_s=12.3, shapes=["float32[1]"], code=None)
    line = json.loads(JsonFormatter().format(made))
    moment = datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert abs(moment - datetime.fromtimestamp(made.created, timezone.utc)) < timedelta(seconds=1)
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "warning",
        "logger": "luna.work",
        "message": "took 12 s",
        "workflow": "portraits",
        "session": 3,
        "request": 17,
        "total_s": 12.3,
        "shapes": ["float32[1]"],
        "code": None,
    }


@pytest.mark.parametrize("evil", ["a\nb", "\u2028", '"}', "\ud800", "\x00", "ä→"], ids=ascii)
def test_json_stays_on_one_line_whatever_is_in_it(evil: str) -> None:
    made = record(
        "%s", evil, trace=Trace(1, 2, "ping", evil), exc_info=failed(), stack_info=evil, path=Path()
    )
    text = JsonFormatter().format(made)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    line = json.loads(text)
    assert (line["message"], line["workflow"], line["stack"], line["path"]) == (evil,) * 3 + (".",)
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: it\nbroke")


def test_extras_do_not_take_the_place_of_what_every_line_has() -> None:
    line = json.loads(JsonFormatter().format(record("m", time="never", level="low", logger="x")))
    assert (line["level"], line["logger"]) == ("warning", "luna.work")
    assert line["time"] != "never"


@pytest.mark.parametrize("form", [TEXT, JSON])
def test_the_log_goes_to_the_file_and_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, no_traces_left: None
) -> None:
    set_up_logging("info", tmp_path / "d.log", form)
    with tracing(TRACE):
        get_logger("work").info("done %s", "ä\ud800")
        get_logger("work").debug("too much")
    lines = (tmp_path / "d.log").read_text("utf-8").splitlines()
    assert len(lines) == 1
    assert "done ä" in (lines[0] if form == TEXT else json.loads(lines[0])["message"])
    assert "portraits" in lines[0]
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert "done" in shown[0]


def test_what_the_event_loop_complains_about_is_in_the_log(
    tmp_path: Path, no_traces_left: None
) -> None:
    set_up_logging("error", tmp_path / "d.log")
    logging.getLogger("asyncio").warning("a task failed")
    assert "a task failed" in (tmp_path / "d.log").read_text("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_full_disk_is_told_once_and_the_daemon_goes_on(
    capsys: pytest.CaptureFixture[str], no_traces_left: None
) -> None:
    set_up_logging("info", Path("/dev/full"))
    for number in range(1000):
        get_logger("work").info("line %d %s", number, "x" * 100)
    shown = capsys.readouterr().err
    assert shown.count("the log /dev/full cannot be written (No space left on device)") == 1
    assert shown.count("luna.work: line") == 1000
    assert "Traceback" not in shown


def test_a_log_that_can_be_written_again_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_traces_left: None
) -> None:
    folder = tmp_path / "gone"
    set_up_logging("info", folder / "d.log")
    for number in range(3):
        get_logger("work").info("line %d", number)
    folder.mkdir()
    get_logger("work").info("line 3")
    assert (folder / "d.log").read_text("utf-8").endswith("line 3\n")
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_without_standard_error_there_is_still_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_traces_left: None
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    set_up_logging("info", tmp_path / "d.log")
    get_logger("work").info("done")
    logging.getLogger("luna").handlers[0].close()
    set_up_logging("info", tmp_path)  # a folder: nothing can be written, and nowhere is it told
    get_logger("work").info("lost")
    assert "done" in (tmp_path / "d.log").read_text("utf-8")


def test_a_wrong_log_call_is_shown_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = LogFile(tmp_path / "d.log")
    handler.handle(record("%d", "no number"))
    handler.close()
    shown = capsys.readouterr().err
    assert "cannot be written" not in shown
    assert "not str" in shown


def test_the_file_is_kept_short(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "d.log")
    handler.maxBytes = 1000
    for number in range(200):
        handler.handle(record("line %d %s", number, "x" * 50))
    handler.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("d.log", "d.log.1", "d.log.2", "d.log.3"),
    ]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())

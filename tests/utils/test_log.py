from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from luna_collection.utils.log import get_logger, log_once


class Said(logging.Handler):
    """Keeps what a logger said."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def said() -> Said:
    """What the loggers of the test say."""
    return Said()


@pytest.fixture
def logger(request: pytest.FixtureRequest, said: Said) -> logging.Logger:
    """A logger of the test's own: what was said once stays said for the whole process."""
    logger = get_logger(request.node.name)
    logger.setLevel(logging.INFO)
    logger.addHandler(said)
    return logger


def test_a_logger_is_called_after_its_part() -> None:
    assert get_logger("daemon").name == "luna.daemon"


def test_it_is_said_once(logger: logging.Logger, said: Said) -> None:
    for number in range(3):
        log_once(logger, logging.INFO, "key", "number %d", number)
    assert said.texts == ["number 0"]


def test_other_keys_are_said_too(logger: logging.Logger, said: Said) -> None:
    log_once(logger, logging.INFO, "a", "first")
    log_once(logger, logging.INFO, "b", "second")
    assert said.texts == ["first", "second"]


def test_other_loggers_say_it_too(logger: logging.Logger, said: Said) -> None:
    log_once(logger, logging.INFO, "key", "here")
    log_once(logger.getChild("other"), logging.INFO, "key", "there")
    assert said.texts == ["here", "there"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR], ids=logging.getLevelName)
def test_it_is_said_at_the_level_that_was_asked_for(
    logger: logging.Logger, said: Said, level: int
) -> None:
    log_once(logger, level, "key", "text")
    assert [record.levelno for record in said.records] == [level]


def test_many_threads_say_it_once(logger: logging.Logger, said: Said) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            pool.submit(log_once, logger, logging.INFO, "key", "text")
    assert said.texts == ["text"]

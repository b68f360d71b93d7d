"""Log records under a screen: held back, written after it, and files are not concerned."""

from __future__ import annotations

import io
import logging

import pytest

from trio_kafka_net.cli.held_logs import MAX_HELD, logs_held


class TerminalLike(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log():
    """The root logger without the handlers that others gave it: (logger, add)."""
    root = logging.getLogger()
    found, root.handlers = root.handlers, []
    yield root
    root.handlers = found


def test_records_wait_for_the_end_of_the_screen(log):
    stream = TerminalLike()
    log.addHandler(logging.StreamHandler(stream))

    with logs_held():
        log.warning("during")
        assert "" == stream.getvalue()
    log.warning("after")

    assert "during\nafter\n" == stream.getvalue()


def test_a_file_is_written_as_ever(log):
    stream = io.StringIO()
    log.addHandler(logging.StreamHandler(stream))

    with logs_held():
        log.warning("during")
        assert "during\n" == stream.getvalue()


def test_the_oldest_are_dropped_when_there_are_too_many(log):
    stream = TerminalLike()
    log.addHandler(logging.StreamHandler(stream))

    with logs_held():
        for number in range(MAX_HELD + 1):
            log.warning("%d", number)

    lines = stream.getvalue().split()
    assert MAX_HELD == len(lines)
    assert "1" == lines[0]

from __future__ import annotations

import logging

import pytest

from trio_kafka_net.metrics.log_buffer import MAX_CHARACTERS, LogBuffer

LOGGER = "trio_kafka_net.broker.anything"


@pytest.fixture
def buffer():
    kept = LogBuffer(capacity=3)
    with kept.installed():
        yield kept


def messages(buffer, *arguments):
    return [each.message for each in buffer.records(*arguments)]


def test_the_last_warnings_are_kept_the_newest_first(buffer):
    log = logging.getLogger(LOGGER)
    for number in range(5):
        log.warning("warning %d", number)
        log.info("not kept")
    assert ["warning 4", "warning 3", "warning 2"] == messages(buffer)
    assert ["warning 4"] == messages(buffer, logging.WARNING, 1)
    (newest, *_) = buffer.records()
    assert (logging.WARNING, LOGGER) == (newest.level, newest.logger)


def test_a_level_leaves_out_what_is_below(buffer):
    log = logging.getLogger(LOGGER)
    log.error("bad")
    log.warning("less bad")
    assert ["bad"] == messages(buffer, logging.ERROR)


def test_an_error_is_told_with_its_cause_and_without_its_objects(buffer):
    try:
        raise ValueError("the cause")
    except ValueError:
        logging.getLogger(LOGGER).exception("it failed")
    assert ["it failed: ValueError: the cause"] == messages(buffer)


def test_messages_are_bounded_and_may_be_malformed(buffer):
    log = logging.getLogger(LOGGER)
    log.warning("%s", "x" * (2 * MAX_CHARACTERS))
    record = logging.LogRecord(LOGGER, logging.ERROR, "", 0, "%d", ("no number",), None)
    buffer.emit(record)
    assert ["%d", "x" * MAX_CHARACTERS] == messages(buffer)


def test_others_see_the_same_records_and_nothing_stays_installed():
    logger = logging.getLogger("trio_kafka_net")
    before = list(logger.handlers)
    first, second = LogBuffer(), LogBuffer()
    with first.installed(), second.installed():
        logging.getLogger(LOGGER).warning("for both")
    logging.getLogger(LOGGER).warning("for nobody")
    assert [["for both"]] * 2 == [messages(first), messages(second)]
    assert before == logger.handlers

"""Error codes."""

from __future__ import annotations

import pytest
from kio.schema import errors as kio_errors

from trio_kafka_net.errors import (
    ConfigError,
    CorruptRecordError,
    KafkaError,
    LogDirFailedError,
    RecordTooLargeError,
    RemoteProtocolError,
    StorageError,
)
from trio_kafka_net.protocol.error_codes import ErrorCode, error_code_of


def test_error_codes_and_retriability_equal_kios():
    expected = {code.name.upper(): (int(code), code.retriable) for code in kio_errors.ErrorCode}

    assert expected == {code.name: (int(code), code.retriable) for code in ErrorCode}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KafkaError(ErrorCode.NOT_CONTROLLER), ErrorCode.NOT_CONTROLLER),
        (KafkaError(41, "elsewhere"), ErrorCode.NOT_CONTROLLER),
        (KafkaError(30_000), ErrorCode.UNKNOWN_SERVER_ERROR),
        (CorruptRecordError(), ErrorCode.CORRUPT_MESSAGE),
        (RecordTooLargeError(), ErrorCode.MESSAGE_TOO_LARGE),
        (LogDirFailedError(), ErrorCode.KAFKA_STORAGE_ERROR),
        (StorageError(), ErrorCode.KAFKA_STORAGE_ERROR),
        (RemoteProtocolError(), ErrorCode.INVALID_REQUEST),
        (ConfigError(), ErrorCode.INVALID_CONFIG),
        (ZeroDivisionError(), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_error_code_of_an_exception(error, code):
    assert code is error_code_of(error)

"""Levels of this package's loggers, as Kafka's BROKER_LOGGER resource (KIP-412).

Loggers belong to the process: brokers that share one share their levels. Only the package's own can
be seen and changed; those of a program around it are its own business. Levels are not stored.

Kafka's levels are log4j's. FATAL is Python's CRITICAL, and TRACE lies below DEBUG.

Source: Kafka ``RuntimeLoggerManager``, ``LoggingController``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

_PACKAGE = "trio_kafka_net"

# {Kafka's level: Python's}, the finest first
_LEVELS: Mapping[str, int] = {
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}


def log_levels() -> dict[str, str]:
    """The level in force for each logger: {name: Kafka's level}, by name."""
    return {name: _level_of(logger) for name, logger in sorted(_loggers())}


def check_log_levels(levels: Mapping[str, str | None]) -> None:
    """Refuse what cannot be set.

    Args:
        levels: {name of a logger: Kafka's level, or None to go by the parent's}.

    Raises:
        KafkaError: INVALID_CONFIG, no such logger or level.
    """
    known = dict(_loggers())
    for name, level in levels.items():
        if name not in known:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Logger {name} does not exist!")
        if level is not None and level not in _LEVELS:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"Cannot set the log level of {name} to {level} as it is not a supported log "
                f"level. Valid log levels are {', '.join(sorted(_LEVELS))}",
            )


def set_log_levels(levels: Mapping[str, str | None]) -> None:
    """Set what ``check_log_levels`` has let pass."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level is None else _LEVELS[level])


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    # Placeholders stand for names that have only children.
    yield _PACKAGE, logging.getLogger(_PACKAGE)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith(f"{_PACKAGE}.") and isinstance(logger, logging.Logger):
            yield name, logger


def _level_of(logger: logging.Logger) -> str:
    effective = logger.getEffectiveLevel()
    return next((name for name, level in _LEVELS.items() if effective <= level), "FATAL")

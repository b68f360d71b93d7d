"""The exception tree: whose fault it is, and what happens to the connection.

Every exception that this package raises on purpose is a ``TrioKafkaError``; any other
exception out of it is a bug. Messages name the thing, the value and the limit.

============================ ============================ ================================
raised                       whose fault                  consequence
============================ ============================ ================================
``ConfigError``              whoever wrote the config     the server does not start
``RemoteProtocolError``      the peer                     that connection is closed
``LocalProtocolError``       our caller                   the caller's bug; propagates
``KafkaError``               the request                  the API's error response
``CloseConnection``          the handler decided so       that connection is closed
``TooManyConnectionsError``  the peer                     the accepted socket is closed
``ConnectionThrottledError`` the peer                     the same, after a delay
``UnknownListenerError``     our caller                   nobody is accepted there
``StorageError``             the disk                     the partition goes offline
``FatalExitError``           this process                 the server stops
============================ ============================ ================================
"""

from __future__ import annotations

from collections.abc import Sequence


class TrioKafkaError(Exception):
    """Root of every exception that this package raises on purpose."""


class ConfigError(TrioKafkaError):
    """A configuration that cannot work; the text names key, value and what is allowed."""


class ProtocolError(TrioKafkaError):
    """Bytes or calls that break the protocol; see the two subclasses for whose fault it is."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """Our side was asked to send or do something that the protocol does not allow."""


class KafkaError(TrioKafkaError):
    """An API's failure with a Kafka error code; becomes the error response of that API."""

    def __init__(self, code: int, message: str | None = None) -> None:
        """Keep ``code`` (a Kafka error code, int16) and an optional text for the client."""
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        name = getattr(self.code, "name", str(self.code))
        return f"{name}: {self.message}" if self.message else name


class InvalidRecordsError(KafkaError):
    """Records of a produced batch that are not allowed, one by one (KIP-467)."""

    def __init__(self, code: int, message: str, record_errors: Sequence[tuple[int, str]]) -> None:
        """Keep the refused records: (number in the batch, from 0; why)."""
        super().__init__(code, message)
        self.record_errors = tuple(record_errors)


class CloseConnection(TrioKafkaError):
    """Raised by a handler to close the connection without an answer."""


class TooManyConnectionsError(TrioKafkaError):
    """A connection over a limit; the accepted socket is closed at once."""


class ConnectionThrottledError(TrioKafkaError):
    """A connection over its address's rate; the accepted socket is closed after a delay."""

    def __init__(self, message: str, *, delay_seconds: float) -> None:
        """Keep ``delay_seconds``: how long the socket stays open, unread."""
        super().__init__(message)
        self.delay_seconds = delay_seconds


class UnknownListenerError(TrioKafkaError, LookupError):
    """A listener that does not exist, or not any more."""


class StorageError(TrioKafkaError):
    """The log could not do what was asked."""


class CorruptRecordError(StorageError):
    """A record batch whose structure or CRC-32C is wrong."""


class RecordTooLargeError(StorageError):
    """A record batch above ``max.message.bytes``."""


class LogDirFailedError(StorageError):
    """An I/O error took a log directory offline."""


class FatalExitError(TrioKafkaError):
    """Stops the server, whoever raises it; never caught by a role or a handler."""

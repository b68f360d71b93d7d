"""Producer ids that nobody had before, whatever happens to the process.

Ids are handed out from a block that was reserved on disk first. A crash loses the rest of a
block, never gives an id twice.

Source: Kafka ``ProducerIdManager`` (KIP-730), whose blocks also have 1000 ids.
"""

from __future__ import annotations

from pathlib import Path

from trio_kafka_net.errors import StorageError

from .log.checkpoints import write_atomically

BLOCK_SIZE = 1000
"""Ids reserved at once."""

_FILE_NAME = "producer-ids"


class ProducerIds:
    """Hands out producer ids; one per data directory."""

    def __init__(self, directory: Path) -> None:
        """Go on after the last block that was reserved in ``directory``.

        Raises:
            OSError: the file is there and cannot be read.
            StorageError: it does not hold a number of ids.
        """
        self._path = directory / _FILE_NAME
        try:
            self._next = int(self._path.read_text("ascii"))
        except FileNotFoundError:
            self._next = 0
        except ValueError as error:
            raise StorageError(f"{self._path} is damaged: {error}") from error
        if self._next < 0:
            raise StorageError(f"{self._path} is damaged: {self._next} is negative")
        self._reserved = self._next

    def next(self) -> int:
        """The next id; once in a thousand calls it writes a small file.

        Raises:
            OSError: the next block could not be reserved; no id was used up.
        """
        if self._next == self._reserved:
            self._reserve(self._reserved + BLOCK_SIZE)
        self._next += 1
        return self._next - 1

    def _reserve(self, end: int) -> None:
        write_atomically(self._path, f"{end}\n".encode("ascii"))
        self._reserved = end

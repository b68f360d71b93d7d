"""Who owns a data directory: one process at a time, one node of one cluster for ever.

Source: Kafka ``LogManager.lockLogDirs``, ``MetaPropertiesEnsemble`` (4.0).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trio_kafka_net.broker.log.checkpoints import (
    read_meta_properties,
    uuid_to_text,
    write_meta_properties,
)
from trio_kafka_net.errors import StorageError

LOCK_FILE = ".lock"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
_IN_MEMORY_PREFIX = "trio-kafka-net-"
_ABANDONED_SECONDS = 60


class DataDir:
    """A data directory in our possession, until ``release``."""

    def __init__(
        self, path: Path, *, node_id: int, cluster_id: str | None, new_uuid: Callable[[], bytes]
    ) -> None:
        """Make the directory if need be, lock it, and check or write whose it is.

        Args:
            path: the directory.
            node_id: of this broker.
            cluster_id: of its cluster; None takes the one in the directory, or makes one.
            new_uuid: makes 16 random bytes.

        Raises:
            StorageError: another process has it, or it belongs to another node or cluster; it is as
                it was.
            OSError: it could not be read or written.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock_fd = _lock(path / LOCK_FILE)
        try:
            self.cluster_id = self._claim(node_id, cluster_id, new_uuid)
            """Of the cluster that the directory belongs to."""
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the directory back; nothing happens the second time."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _claim(self, node_id: int, cluster_id: str | None, new_uuid: Callable[[], bytes]) -> str:
        owner = read_meta_properties(self.path)
        if owner is None:
            cluster_id = cluster_id or uuid_to_text(new_uuid())
            write_meta_properties(self.path, cluster_id=cluster_id, node_id=node_id)
            return cluster_id
        if owner != (cluster_id or owner[0], node_id):
            raise StorageError(
                f"{self.path} belongs to node {owner[1]} of cluster {owner[0]}, "
                f"this is node {node_id} of cluster {cluster_id or owner[0]}"
            )
        return owner[0]


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise StorageError(f"{path.parent} is in use by another process: {exc}") from exc
    return fd


def is_in_memory(path: Path) -> bool:
    """Whether a directory is known to be in memory, so that its small files are written at once."""
    return path.parent == _SHARED_MEMORY


@contextlib.contextmanager
def in_memory_data_dir() -> Iterator[Path]:
    """A data directory that lives in memory and is removed at the end.

    It is a directory on tmpfs where there is one, so that the code path is the one of a disk; where
    there is none, it is a temporary directory on disk. Directories of brokers that were killed are
    removed on the way: nobody else would, and memory is not a disk.
    """
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    if parent is not None:
        _remove_abandoned(parent)
    path = Path(tempfile.mkdtemp(prefix=_IN_MEMORY_PREFIX, dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove our directories in memory whose process is gone, which is when their lock is free."""
    for path in parent.glob(f"{_IN_MEMORY_PREFIX}*"):
        lock = path / LOCK_FILE
        try:
            # One that was made just now may be about to be locked.
            if time.time() - lock.stat().st_mtime < _ABANDONED_SECONDS:
                continue
            fd = _lock(lock)
        except (OSError, StorageError):
            continue  # somebody else's, in use, or gone already
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)

"""The small text files of a data directory, in Kafka's formats.

All are written to a temporary file, synced and renamed, so that a reader finds the old content or
the new one, never half of it.

=================================== ===============================================================
``recovery-point-offset-checkpoint`` {partition: offset up to which the log is on the device}
``log-start-offset-checkpoint``      {partition: first offset that was not deleted}
``cleaner-offset-checkpoint``        {partition: offset up to which the log is compacted}
``leader-epoch-checkpoint``          per partition: (leader epoch, its first offset), in order
``partition.metadata``               per partition: the topic id
``meta.properties``                  whose data directory it is
``.kafka_cleanshutdown``             left by a clean stop: nothing needs recovery
=================================== ===============================================================

Source: Kafka ``CheckpointFile``, ``OffsetCheckpointFile``, ``LeaderEpochCheckpointFile``,
``PartitionMetadataFile``, ``MetaProperties``, ``CleanShutdownFileHandler`` (4.0).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from trio_kafka_net.errors import StorageError

TopicPartition: TypeAlias = tuple[str, int]
"""Topic name and partition index."""

RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_FILE = "log-start-offset-checkpoint"
CLEANER_OFFSET_FILE = "cleaner-offset-checkpoint"
LEADER_EPOCH_FILE = "leader-epoch-checkpoint"
PARTITION_METADATA_FILE = "partition.metadata"
META_PROPERTIES_FILE = "meta.properties"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"

_CHECKPOINT_VERSION = 0
_UUID_BYTES = 16


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole; it is on the device when this returns.

    Raises:
        OSError: the old content is still there.
    """
    replace_file(path, content)
    sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole; a crash may bring the old one back until its directory is synced.

    Raises:
        OSError: the old content is still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sync_directory(directory: Path) -> None:
    """Wait until created, renamed and removed names of a directory are on the device."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def uuid_to_text(uuid: bytes) -> str:
    """Kafka's text for a UUID: its 16 bytes in URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode()


def uuid_from_text(text: str) -> bytes:
    """The 16 bytes of a UUID in Kafka's text.

    Raises:
        StorageError: it is not one.
    """
    try:
        uuid = base64.urlsafe_b64decode(text + "==")
    except (binascii.Error, ValueError):
        uuid = b""
    if len(uuid) != _UUID_BYTES:
        raise StorageError(f"{text!r} is not a UUID")
    return uuid


def write_offsets(path: Path, offsets: Mapping[TopicPartition, int]) -> None:
    """Write a checkpoint of one offset per partition.

    Raises:
        OSError: the old content is still there.
    """
    lines = [f"{topic} {index} {at}" for (topic, index), at in sorted(offsets.items())]
    write_atomically(path, _as_lines(lines))


def read_offsets(path: Path) -> dict[TopicPartition, int]:
    """Read a checkpoint of offsets; empty if there is no file.

    Raises:
        StorageError: the file breaks the format.
    """
    try:
        rows = [line.split() for line in _read_lines(path)]
        return {(topic, int(index)): int(offset) for topic, index, offset in rows}
    except ValueError as exc:
        raise StorageError(f"{path}: {exc}") from exc


def write_leader_epochs(path: Path, epochs: Iterable[tuple[int, int]]) -> None:
    """Write (leader epoch, first offset) pairs, in order; its directory is to be synced.

    Raises:
        OSError: the old content is still there.
    """
    replace_file(path, _as_lines([f"{epoch} {offset}" for epoch, offset in epochs]))


def read_leader_epochs(path: Path) -> list[tuple[int, int]]:
    """Read (leader epoch, first offset) pairs; empty if there is no file.

    Raises:
        StorageError: the file breaks the format.
    """
    try:
        rows = [line.split() for line in _read_lines(path)]
        return [(int(epoch), int(offset)) for epoch, offset in rows]
    except ValueError as exc:
        raise StorageError(f"{path}: {exc}") from exc


def write_topic_id(directory: Path, topic_id: bytes) -> None:
    """Write ``partition.metadata`` of a partition.

    Raises:
        OSError: the old content is still there.
    """
    text = f"version: 0\ntopic_id: {uuid_to_text(topic_id)}"
    write_atomically(directory / PARTITION_METADATA_FILE, text.encode())


def read_topic_id(directory: Path) -> bytes | None:
    """Read the topic id of a partition; None if it has no ``partition.metadata``.

    Raises:
        StorageError: the file breaks the format.
    """
    fields = _read_fields(directory / PARTITION_METADATA_FILE, ":")
    if fields is None:
        return None
    if fields.get("version") != "0":
        raise StorageError(f"{directory / PARTITION_METADATA_FILE}: version is not 0")
    return uuid_from_text(fields.get("topic_id", ""))


def write_meta_properties(data_dir: Path, *, cluster_id: str, node_id: int) -> None:
    """Write whose data directory this is.

    Raises:
        OSError: the old content is still there.
    """
    text = f"#\ncluster.id={cluster_id}\nnode.id={node_id}\nversion=1\n"
    write_atomically(data_dir / META_PROPERTIES_FILE, text.encode())


def read_meta_properties(data_dir: Path) -> tuple[str, int] | None:
    """Read cluster id and node id; None if the directory belongs to nobody yet.

    Raises:
        StorageError: the file breaks the format.
    """
    path = data_dir / META_PROPERTIES_FILE
    fields = _read_fields(path, "=")
    if fields is None:
        return None
    try:
        return fields["cluster.id"], int(fields.get("node.id") or fields["broker.id"])
    except (KeyError, ValueError) as exc:
        raise StorageError(f"{path}: no usable {exc}") from exc


def write_clean_shutdown(data_dir: Path) -> None:
    """Say that everything is on the device: the next start needs no recovery.

    Raises:
        OSError: nothing is said.
    """
    content = json.dumps({"version": 0, "brokerEpoch": -1}, separators=(",", ":"))
    write_atomically(data_dir / CLEAN_SHUTDOWN_FILE, content.encode())


def take_clean_shutdown(data_dir: Path) -> bool:
    """Whether the last stop was clean; asked once, for the marker is removed.

    Raises:
        OSError: the marker could not be removed.
    """
    marker = data_dir / CLEAN_SHUTDOWN_FILE
    if not marker.exists():
        return False
    marker.unlink()
    # On the device before the first append: a crash must not find the marker again.
    sync_directory(data_dir)
    return True


def _as_lines(lines: list[str]) -> bytes:
    return "\n".join([str(_CHECKPOINT_VERSION), str(len(lines)), *lines, ""]).encode()


def _read_lines(path: Path) -> list[str]:
    try:
        version, count, *lines = path.read_text(encoding="utf-8").splitlines() or ("0", "0")
    except FileNotFoundError:
        return []
    if int(version) != _CHECKPOINT_VERSION or int(count) != len(lines):
        raise ValueError(f"version {version}, {count} entries announced, {len(lines)} found")
    return lines


def _read_fields(path: Path, separator: str) -> dict[str, str] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as exc:
        raise StorageError(f"{path}: {exc}") from exc
    pairs = (line.partition(separator) for line in text.splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}

"""``topics.json``: the topics and the epoch of the controller, over restarts.

Kafka keeps them in a metadata log of its own, replicated by a quorum; one controller needs neither,
and a small readable file that is replaced as a whole can be looked at, backed up and repaired with
an editor. The partitions' directories alone would not do: they know neither settings nor leader
epochs, nor how many partitions a topic was meant to have. ``partition.metadata`` ties every
directory to its topic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trio_kafka_net.errors import KafkaError, StorageError

from .log.checkpoints import uuid_from_text, uuid_to_text, write_atomically
from .metadata_cache import MetadataCache, PartitionMetadata, TopicMetadata, validate_topic_name

TOPICS_FILE = "topics.json"

_FILE_VERSION = 1
_MOST_STARTS = 2**30
"""Of the controller: what is larger was not counted, and would soon not go into a request."""


def load_topics(data_dir: Path) -> tuple[MetadataCache, int]:
    """Read ``topics.json`` of a data directory; blocks, for a worker thread.

    Returns:
        The topics, and the epoch of the controller that wrote them; no topics and 0 if there is
        no file.

    Raises:
        StorageError: the file is damaged.
        OSError: it could not be read.
    """
    path = data_dir / TOPICS_FILE
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != _FILE_VERSION:
            raise ValueError(f"version {document['version']} is not {_FILE_VERSION}")
        entries = [_topic_from_json(entry) for entry in document["topics"]]
        topics = MetadataCache(entries)
        if not len({topic.topic_id for topic in entries}) == len(topics) == len(entries):
            raise ValueError("two topics have the same name or id")
        return topics, _epoch(document.get("controller_epoch", 0), _MOST_STARTS)
    except FileNotFoundError:
        return MetadataCache(), 0
    except (ValueError, LookupError, TypeError, AttributeError, KafkaError) as exc:
        raise StorageError(f"{path} is damaged: {exc!r}") from exc


def save_topics(data_dir: Path, topics: Iterable[TopicMetadata], controller_epoch: int) -> None:
    """Replace ``topics.json``; blocks, for a worker thread.

    Args:
        data_dir: the data directory.
        topics: all of them; nobody may change them meanwhile.
        controller_epoch: of the controller that writes.

    Raises:
        OSError: the old content is still there.
    """
    # A line for each topic: good to read, and quick to write where there are thousands.
    lines = ",\n".join(json.dumps(_topic_to_json(topic)) for topic in topics)
    head = f'"version": {_FILE_VERSION}, "controller_epoch": {controller_epoch}'
    content = f'{{{head}, "topics": [\n{lines}\n]}}\n'
    write_atomically(data_dir / TOPICS_FILE, content.encode())


def _topic_to_json(topic: TopicMetadata) -> dict[str, Any]:
    return {
        "name": topic.name,
        "id": uuid_to_text(topic.topic_id),
        "configs": topic.configs,
        "partitions": [
            {
                "replicas": partition.replicas,
                "isr": partition.isr,
                "leader_id": partition.leader_id,
                "leader_epoch": partition.leader_epoch,
                "partition_epoch": partition.partition_epoch,
            }
            for partition in topic.partitions
        ],
    }


def _topic_from_json(entry: dict[str, Any]) -> TopicMetadata:
    validate_topic_name(entry["name"])
    return TopicMetadata(
        name=entry["name"],
        topic_id=uuid_from_text(entry["id"]),
        configs={str(name): str(value) for name, value in entry["configs"].items()},
        partitions=[_partition_from_json(each) for each in entry["partitions"]],
    )


def _partition_from_json(entry: dict[str, Any]) -> PartitionMetadata:
    replicas = tuple(map(int, entry["replicas"]))
    isr = tuple(map(int, entry["isr"]))
    if not replicas or len(set(replicas)) < len(replicas) or not set(isr) <= set(replicas):
        raise ValueError(f"replicas {replicas}, {isr} of them in sync")
    return PartitionMetadata(
        replicas=replicas,
        isr=isr,
        leader_id=int(entry["leader_id"]),
        leader_epoch=_epoch(entry["leader_epoch"]),
        partition_epoch=_epoch(entry.get("partition_epoch", 0)),
    )


def _epoch(value: Any, most: int = 2**31 - 1) -> int:
    epoch = int(value)
    if not 0 <= epoch <= most:
        raise ValueError(f"epoch {epoch}")
    return epoch

"""Topics and brokers as somebody sees them.

The controller has one that is the truth (``topics_file`` keeps its topics). Every broker has its
own, which it only knows from the controller's requests, so it may be behind for a moment.

Source: Kafka ``MetadataCache``, ``Topic`` (4.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode

INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Topics that clients read but do not make or write."""

NO_LEADER = -1
_MAX_NAME_LENGTH = 249
_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


@attrs.frozen
class Endpoint:
    """Where clients reach a broker through one of its listeners."""

    host: str
    port: int


@attrs.frozen
class BrokerMetadata:
    """A broker of the cluster."""

    node_id: int
    endpoints: Mapping[str, Endpoint]
    """{listener name: where to connect}"""
    rack: str | None = None


@attrs.define
class PartitionMetadata:
    """Who has and who leads a partition."""

    replicas: tuple[int, ...]
    """Node ids, the preferred leader first."""
    isr: tuple[int, ...]
    """Node ids in sync."""
    leader_id: int
    """Node id, -1 if nobody leads."""
    leader_epoch: int = 0
    """Counts leaderships."""
    partition_epoch: int = 0
    """Counts changes of any kind."""
    offline_replicas: tuple[int, ...] = ()
    """Node ids of replicas whose brokers are gone; told to brokers, never kept."""


@attrs.define
class TopicMetadata:
    """A topic."""

    name: str
    topic_id: bytes
    """16 bytes."""
    partitions: list[PartitionMetadata]
    """By their index."""
    configs: dict[str, str] = attrs.field(factory=dict)
    """{Kafka's name: value}, what the topic sets itself; only the controller knows it."""

    @property
    def is_internal(self) -> bool:
        """Whether the broker keeps its own state in it."""
        return self.name in INTERNAL_TOPICS


def validate_topic_name(name: str) -> None:
    """Refuse what cannot name a topic.

    Raises:
        KafkaError: INVALID_TOPIC_EXCEPTION.

    Source: Kafka ``Topic.validate``.
    """
    if not name:
        reason = "the empty string is not allowed"
    elif name in {".", ".."}:
        reason = f"'{name}' is not allowed"
    elif len(name) > _MAX_NAME_LENGTH:
        reason = f"the length of '{name}' is longer than the max allowed length {_MAX_NAME_LENGTH}"
    elif not _LEGAL_NAME.fullmatch(name):
        reason = (
            f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' "
            "and '-'"
        )
    else:
        return
    raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def _unify(name: str) -> str:
    """Names that differ only in '.' and '_' are the same in the names of metrics."""
    return name.replace(".", "_")


class MetadataCache:
    """All topics and brokers; belongs to the event loop.

    Whoever keeps what it made of them asks ``version``: so what a broker's cache holds is changed
    by the methods here and by nobody else.
    """

    def __init__(self, topics: Iterable[TopicMetadata] = ()) -> None:
        """Begin with topics and without brokers."""
        self.version = 0
        """Grows with every change that somebody could see."""
        self._controller_id = -1
        self._brokers: dict[int, BrokerMetadata] = {}
        self._topics: dict[str, TopicMetadata] = {}
        self._names_by_id: dict[bytes, str] = {}
        for topic in topics:
            self.add(topic)

    # Brokers

    @property
    def controller_id(self) -> int:
        """Node id of the broker that stands for the controller, -1 if none does."""
        return self._controller_id

    @controller_id.setter
    def controller_id(self, node_id: int) -> None:
        if node_id != self._controller_id:
            self._controller_id = node_id
            self.version += 1

    @property
    def brokers(self) -> list[BrokerMetadata]:
        """All brokers, by node id."""
        return [self._brokers[node_id] for node_id in sorted(self._brokers)]

    def add_broker(self, broker: BrokerMetadata) -> None:
        """Add a broker, or replace what is known of it."""
        self._brokers[broker.node_id] = broker
        self.version += 1

    def remove_broker(self, node_id: int) -> None:
        """Forget a broker; nothing happens if it is not known."""
        if self._brokers.pop(node_id, None) is not None:
            self.version += 1

    def set_brokers(self, brokers: Iterable[BrokerMetadata]) -> None:
        """Know these brokers and no others."""
        known = {broker.node_id: broker for broker in brokers}
        if known != self._brokers:
            self._brokers = known
            self.version += 1

    def endpoint(self, node_id: int, listener_name: str) -> Endpoint | None:
        """Where a broker listens, if it is known and has that listener."""
        broker = self._brokers.get(node_id)
        return None if broker is None else broker.endpoints.get(listener_name)

    # Topics

    def __iter__(self) -> Iterator[TopicMetadata]:
        """The topics, by name."""
        return iter([self._topics[name] for name in sorted(self._topics)])

    def __len__(self) -> int:
        """Count of topics."""
        return len(self._topics)

    def get_topic(self, name: str) -> TopicMetadata | None:
        """A topic by its name."""
        return self._topics.get(name)

    def get_topic_by_id(self, topic_id: bytes) -> TopicMetadata | None:
        """A topic by its id, 16 bytes."""
        name = self._names_by_id.get(topic_id)
        return None if name is None else self._topics[name]

    def check_new_topic(self, name: str) -> None:
        """Refuse the name of a topic that cannot be made.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION (the name breaks the rules, or collides),
                TOPIC_ALREADY_EXISTS.

        Source: Kafka ``ReplicationControlManager.validateNewTopicNames``.
        """
        validate_topic_name(name)
        if name in self._topics:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if "." in name or "_" in name:
            unified = _unify(name)
            colliding = [other for other in self._topics if _unify(other) == unified]
            if colliding:
                raise KafkaError(
                    ErrorCode.INVALID_TOPIC_EXCEPTION,
                    f"Topic '{name}' collides with existing topic: {colliding[0]}",
                )

    def add_topic(
        self,
        name: str,
        topic_id: bytes,
        assignments: Sequence[Sequence[int]],
        configs: Mapping[str, str] | None = None,
    ) -> TopicMetadata:
        """Add a topic; every partition is led by the first node of its assignment.

        Args:
            name: a new name.
            topic_id: 16 bytes.
            assignments: node ids of every partition's replicas, in the order of the partitions.
            configs: {Kafka's name: value}.

        Raises:
            KafkaError: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS; nothing
                was added.
        """
        self.check_new_topic(name)
        if not assignments:
            raise KafkaError(ErrorCode.INVALID_PARTITIONS, "a topic has at least one partition")
        topic = TopicMetadata(name, topic_id, new_partitions(assignments), dict(configs or {}))
        self.add(topic)
        return topic

    def remove_topic(self, name: str) -> TopicMetadata:
        """Remove a topic, and return what it was.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION.
        """
        topic = self.topic_or_raise(name)
        del self._topics[name]
        self.version += 1
        if self._names_by_id.get(topic.topic_id) == name:
            del self._names_by_id[topic.topic_id]
        return topic

    def topic_or_raise(self, name: str) -> TopicMetadata:
        """A topic by its name.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            )
        return topic

    def set_partitions(
        self, name: str, topic_id: bytes, partitions: Mapping[int, PartitionMetadata]
    ) -> None:
        """Take over what the controller told of a topic; what it did not tell stays.

        Args:
            name: of the topic; one of that name and another id is replaced.
            topic_id: 16 bytes.
            partitions: {index: state}; beyond those that are known only without gaps, for nobody
                could say anything of a partition in between.
        """
        topic = self._topics.get(name)
        if topic is None or topic.topic_id != topic_id:
            if topic is not None:
                self.remove_topic(name)
            topic = TopicMetadata(name, topic_id, [])
            self.add(topic)
        for index in sorted(partitions):
            if 0 <= index < len(topic.partitions):
                if partitions[index] == topic.partitions[index]:
                    continue
                topic.partitions[index] = partitions[index]
            elif index == len(topic.partitions):
                topic.partitions.append(partitions[index])
            else:
                continue
            self.version += 1
        if not topic.partitions:
            self.remove_topic(name)

    def add(self, topic: TopicMetadata) -> None:
        """Add a topic whose name and id are new; a zero id is none."""
        self._topics[topic.name] = topic
        self.version += 1
        if any(topic.topic_id):
            self._names_by_id[topic.topic_id] = topic.name

    def with_changed(self, changed: Mapping[str, TopicMetadata]) -> list[TopicMetadata]:
        """The topics, those in ``changed`` ({name: topic}) in place of the present ones."""
        return [changed.get(topic.name, topic) for topic in self]


def new_partitions(assignments: Sequence[Sequence[int]]) -> list[PartitionMetadata]:
    """Partitions led by the first node of their assignment, with leader epoch 0."""
    return [
        PartitionMetadata(replicas=tuple(nodes), isr=tuple(nodes), leader_id=nodes[0])
        for nodes in assignments
    ]

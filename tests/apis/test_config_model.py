"""Any sequence of changes leaves what a dictionary would hold, also after restarts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.apis.config_requests import (
    APPEND,
    BROKER,
    DELETE,
    SET,
    SUBTRACT,
    TOPIC,
    change,
    operation,
    replace,
    values,
)
from tests.apis.lab import Lab
from trio_kafka_net.broker_server import open_broker
from trio_kafka_net.config import BrokerConfig

# (type, name): source of what is set there
RESOURCES = {(TOPIC, "t"): 1, (TOPIC, "u"): 1, (BROKER, "1"): 2, (BROKER, ""): 3}

# {type: [numbers, list]}
KEYS = {
    TOPIC: (["retention.ms", "segment.bytes"], "cleanup.policy"),
    BROKER: (["log.retention.ms", "log.segment.bytes"], "log.cleanup.policy"),
}
GOOD_NUMBERS = ["100", "200"]
GOOD_LISTS = ["delete"]
BAD = ["many", "-7"]


@st.composite
def steps(draw):
    """Restart, or (resource, {key: (operation, text)}, whether everything else is dropped)."""
    if draw(st.integers(0, 5)) == 0:
        return None
    resource = draw(st.sampled_from(sorted(RESOURCES)))
    numbers, of_list = KEYS[resource[0]]
    operations = draw(
        st.dictionaries(
            st.sampled_from(numbers),
            st.tuples(
                st.sampled_from([SET, SET, SET, DELETE, APPEND]),
                st.sampled_from(GOOD_NUMBERS * 3 + BAD),
            ),
        )
    )
    if draw(st.booleans()):
        kinds = st.sampled_from([SET, DELETE, APPEND])
        operations[of_list] = (draw(kinds), draw(st.sampled_from(GOOD_LISTS)))
    replaces = draw(st.booleans())
    if replaces:
        operations = {key: (SET, text) for key, (_, text) in operations.items()}
    return resource, operations, replaces


@attrs.define
class Model:
    """What is set for each resource."""

    texts: dict = attrs.field(factory=lambda: {resource: {} for resource in RESOURCES})

    def change(self, resource, operations, replaces):
        """Whether the change is good; a bad one leaves everything as it was."""
        after = {} if replaces else dict(self.texts[resource])
        for key, (kind, text) in operations.items():
            is_list = key.endswith("policy")
            if kind in {APPEND, SUBTRACT} and not is_list:
                return False
            if kind == DELETE:
                after.pop(key, None)
            elif text in BAD:
                return False
            else:
                after[key] = text
        self.texts[resource] = after
        return True

    def in_force(self, topic):
        """(retention.ms, segment.bytes) of a topic's log."""
        return tuple(self._in_force(topic, key) for key in ("retention.ms", "segment.bytes"))

    def _in_force(self, topic, key):
        own = self.texts[TOPIC, topic].get(key)
        of_broker = self.texts[BROKER, "1"].get(f"log.{key}")
        of_all = self.texts[BROKER, ""].get(f"log.{key}")
        default = {"retention.ms": "604800000", "segment.bytes": "1073741824"}[key]
        return int(own or of_broker or of_all or default)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(steps(), min_size=1, max_size=12))
def test_any_sequence_of_changes_is_what_a_dictionary_says(sequence):
    with tempfile.TemporaryDirectory() as data_dir:
        trio.run(follow, Path(data_dir), sequence)


async def follow(data_dir, sequence):
    model = Model()
    parts = [[]]
    for step in sequence:
        if step is None:
            parts.append([])
        else:
            parts[-1].append(step)
    for part in parts:
        config = BrokerConfig(
            listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=(data_dir,), num_network_threads=1
        )
        async with open_broker(config) as broker:
            lab = Lab(broker)
            for name in "tu":
                if broker.local.metadata.get_topic(name) is None:
                    await lab.make_topic(name)
            await check(lab, model)
            for step in part:
                assert await ask(lab, *step) == model.change(*step)
                await check(lab, model)


async def ask(lab, resource, operations, replaces):
    if replaces:
        texts = {key: text for key, (_, text) in operations.items()}
        ((code, _),) = await replace(lab, (*resource, texts))
    else:
        asked = [
            operation(key, kind, None if kind == DELETE else text)
            for key, (kind, text) in operations.items()
        ]
        ((code, _),) = await change(lab, (*resource, asked))
    return code == 0


async def check(lab, model):
    for (kind, name), source in RESOURCES.items():
        assert await values(lab, kind, name, source) == model.texts[kind, name]
    for topic in "tu":
        config = lab.partition(topic).log.config
        assert (config.retention_ms, config.segment_bytes) == model.in_force(topic)

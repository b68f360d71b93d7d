"""DynamicConfig: checked, stored, then applied; and what is left after any of it fails."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

from trio_kafka_net.broker import dynamic_config as dynamic_config_module
from trio_kafka_net.broker.dynamic_config import ALL_BROKERS, DYNAMIC_CONFIG_FILE, DynamicConfig
from trio_kafka_net.config import BrokerConfig
from trio_kafka_net.errors import ConfigError, KafkaError, StorageError
from trio_kafka_net.protocol.error_codes import ErrorCode

STATIC = BrokerConfig(num_io_threads=5)


def load(data_dir, static=STATIC):
    return DynamicConfig.load(static, data_dir)


def to(**texts):
    """A change to exactly these settings, written with underscores for dots."""
    return lambda before: {name.replace("_", "."): text for name, text in texts.items()}


@attrs.define
class Follower:
    """Notes what it is asked and told, and refuses or fails when it shall."""

    told: list[tuple[str, int, int]] = attrs.field(factory=list)
    refusal: str = ""
    failure: Exception | None = None

    async def validate(self, old, new):
        self.told.append(("validate", old.num_io_threads, new.num_io_threads))
        if self.refusal:
            raise ConfigError(self.refusal)

    async def reconfigure(self, old, new):
        self.told.append(("reconfigure", old.num_io_threads, new.num_io_threads))
        if self.failure:
            raise self.failure


@pytest.fixture
def config(tmp_path):
    return load(tmp_path)


async def test_change_is_checked_stored_and_applied(config, tmp_path):
    followers = [Follower(), Follower()]
    for follower in followers:
        config.subscribe(follower)

    await config.alter("1", to(num_io_threads="6"))

    assert config.current == attrs.evolve(STATIC, num_io_threads=6)
    assert config.static == STATIC
    for follower in followers:
        assert follower.told == [("validate", 5, 6), ("reconfigure", 5, 6)]
    assert load(tmp_path).current == config.current


async def test_broker_counts_more_than_all_brokers_and_both_more_than_the_start(config):
    async def set_to(scope, **texts):
        await config.alter(scope, to(**texts))
        return config.current.num_io_threads

    assert await set_to(ALL_BROKERS, num_io_threads="6") == 6
    assert await set_to("1", num_io_threads="7") == 7
    assert await set_to(ALL_BROKERS, num_io_threads="8") == 7
    assert await set_to("1") == 8
    assert await set_to(ALL_BROKERS) == 5


async def test_refused_change_changes_nothing(config, tmp_path):
    good, bad = Follower(), Follower(refusal="too many")
    config.subscribe(good)
    config.subscribe(bad)

    with pytest.raises(KafkaError) as refused:
        await config.alter("1", to(num_io_threads="6"))

    assert (refused.value.code, refused.value.message) == (ErrorCode.INVALID_REQUEST, "too many")
    assert good.told == bad.told == [("validate", 5, 6)]
    assert (config.current, dict(config.texts("1"))) == (STATIC, {})
    assert not (tmp_path / DYNAMIC_CONFIG_FILE).exists()


async def test_validation_changes_nothing(config, tmp_path):
    follower = Follower()
    config.subscribe(follower)

    await config.alter("1", to(num_io_threads="6"), validate_only=True)

    assert follower.told == [("validate", 5, 6)]
    assert config.current == STATIC
    assert not (tmp_path / DYNAMIC_CONFIG_FILE).exists()


async def test_change_that_cannot_be_stored_changes_nothing(config, tmp_path, monkeypatch, caplog):
    follower = Follower()
    config.subscribe(follower)

    def fail(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(dynamic_config_module, "write_atomically", fail)
        with pytest.raises(KafkaError) as refused:
            await config.alter("1", to(num_io_threads="6"))

    assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    # Paths are for our own log.
    assert str(tmp_path) not in refused.value.message
    assert f"{tmp_path / DYNAMIC_CONFIG_FILE} could not be written" in caplog.text
    assert follower.told == [("validate", 5, 6)]
    assert config.current == load(tmp_path).current == STATIC
    await config.alter("1", to(num_io_threads="7"))
    assert config.current.num_io_threads == 7


async def test_one_that_cannot_follow_does_not_keep_the_others(config, caplog):
    followers = [Follower(failure=ConfigError("too late")), Follower()]
    for follower in followers:
        config.subscribe(follower)

    await config.alter("1", to(num_io_threads="6"))

    assert config.current.num_io_threads == 6
    assert followers[1].told[-1] == ("reconfigure", 5, 6)
    assert "could not be applied: too late" in caplog.text


async def test_changes_happen_one_at_a_time(config):
    async def add_one():
        await config.alter(
            "1", lambda before: {"num.io.threads": str(int(before.get("num.io.threads", 0)) + 1)}
        )

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(add_one)

    assert config.current.num_io_threads == 5


async def test_change_may_refuse(config):
    def refuse(before):
        raise KafkaError(ErrorCode.INVALID_CONFIG, "no")

    with pytest.raises(KafkaError, match="no"):
        await config.alter("1", refuse)

    await config.alter("1", to(num_io_threads="6"))


@pytest.mark.parametrize(
    ("texts", "code", "message"),
    [
        ({"nonsense": "1"}, ErrorCode.INVALID_CONFIG, "Unknown broker config name: nonsense"),
        (
            {"node.id": "1", "broker.rack": "a"},
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: Set(broker.rack, node.id)",
        ),
    ],
)
async def test_fixed_and_unknown_keys_are_refused(config, texts, code, message):
    with pytest.raises(KafkaError) as refused:
        await config.alter(ALL_BROKERS, lambda before: texts)

    assert (refused.value.code, refused.value.message) == (code, message)


# What was stored


def store(data_dir, brokers, version=1):
    document = {"version": version, "brokers": brokers}
    (data_dir / DYNAMIC_CONFIG_FILE).write_text(json.dumps(document))


async def test_stored_values_that_became_invalid_are_ignored_one_by_one(tmp_path, caplog):
    store(
        tmp_path,
        {
            "": {
                "num.io.threads": "many",
                "nonsense": "1",
                "queued.max.requests": "5",
                "log.segment.bytes": "5000",
            },
            "1": {"listener.name.gone.max.connections": "5", "log.retention.ms": "77"},
            "2": {"num.io.threads": "3"},
        },
    )

    config = load(tmp_path)

    assert config.current == attrs.evolve(STATIC, log_segment_bytes=5000, log_retention_ms=77)
    ignored = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert [text.removeprefix("ignored: ").split(":")[0] for text in ignored] == [
        "num.io.threads=many",
        "INVALID_CONFIG",
        "INVALID_REQUEST",
        "listener.name.gone",
    ]
    # The next change is not refused because of them.
    await config.alter(ALL_BROKERS, lambda before: {**before, "num.io.threads": "6"})
    assert (
        load(tmp_path).current
        == config.current
        == attrs.evolve(STATIC, log_segment_bytes=5000, log_retention_ms=77, num_io_threads=6)
    )


def test_stored_values_that_need_each_other_are_taken_together(tmp_path, caplog):
    store(
        tmp_path,
        {
            "": {"max.connections.per.ip": "0"},
            "1": {"max.connections.per.ip.overrides": "127.0.0.1:5"},
        },
    )

    assert load(tmp_path).current.max_connections_per_ip == 0
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "brokers": {}}',
        '{"version": 1}',
        '{"version": 1, "brokers": []}',
        '{"version": 1, "brokers": {"": 5}}',
        "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
    ],
)
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / DYNAMIC_CONFIG_FILE).write_text(content)

    with pytest.raises(StorageError, match=rf"{DYNAMIC_CONFIG_FILE} is damaged"):
        load(tmp_path)

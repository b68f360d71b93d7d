"""Anonymous screens: no name is left, what belongs together still does, and details work."""

from __future__ import annotations

import json

from trio_kafka_net.monitor.anonymize import AnonymizingSource, pseudonym
from trio_kafka_net.monitor.snapshot import Snapshot
from trio_kafka_net.monitor.ui_state import Need


class Secretive:
    """A source full of names; remembers what it was asked for."""

    name = "secret-host:9404"
    is_live = True
    shares_event_loop = False

    def __init__(self):
        self.needs = []

    def past(self):
        return [self.snapshot()]

    async def take(self, needs):
        self.needs = list(needs)
        return self.snapshot()

    async def aclose(self):
        pass

    def snapshot(self):
        lag = {(("consumergroup", "secret-group"), ("topic", "secret-topic")): 5.0}
        bytes_in = {(("topic", "secret-topic"),): 1.0, (("topic", "__consumer_offsets"),): 2.0}
        member = {"member_id": "secret-m", "client_id": "secret-c", "host": "secret-h"}
        documents = {
            "connections": {
                "connections": [
                    {"client_id": "secret-client", "principal": "User:ANONYMOUS", "state": "idle"},
                    {"client_id": "secret-other", "principal": "User:secret", "remote": "secret:1"},
                ]
            },
            "group": {"group": "secret-group", "member_list": [member]},
            "log": {"records": [{"level": "WARNING", "message": "secret-topic is full"}]},
        }
        return Snapshot(1.0, 1.0, {"lag": lag, "in": bytes_in}, documents)


async def test_no_name_is_left():
    source = AnonymizingSource(Secretive())
    snapshot = await source.take(())

    for text in (snapshot.to_json(), next(source.past()).to_json(), source.name):
        assert "secret" not in text
    assert "__consumer_offsets" in snapshot.to_json()
    assert "User:ANONYMOUS" in snapshot.to_json()
    assert '"state":"idle"' in snapshot.to_json()


async def test_what_has_one_name_keeps_one_name():
    text = (await AnonymizingSource(Secretive()).take(())).to_json()

    assert 2 == text.count(pseudonym("topic", "secret-topic"))
    assert 2 == text.count(pseudonym("group", "secret-group"))
    assert json.loads(text)["samples"].keys() == {"lag", "in"}


async def test_details_are_asked_for_by_their_real_names():
    inner = Secretive()
    source = AnonymizingSource(inner)
    await source.take(())

    await source.take([Need("group", (("name", pseudonym("group", "secret-group")),))])

    assert [Need("group", (("name", "secret-group"),))] == inner.needs

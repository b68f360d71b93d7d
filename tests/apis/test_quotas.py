"""DescribeClientQuotas and AlterClientQuotas, as clients see them."""

import pytest

from trio_kafka_net.broker import client_quotas
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import AlterClientQuotasRequest, DescribeClientQuotasRequest
from trio_kafka_net.testing.client import ConnectionClosedError

EXACT, DEFAULT, ANY = 0, 1, 2
VERSIONS = pytest.mark.parametrize("version", [0, 1])


def a_change(*entries, **settings):
    """Of (names of the entity, {key: value}); None takes a quota away."""
    of = AlterClientQuotasRequest
    return of(
        entries=[
            of.EntryData(
                entity=[of.EntityData(entity_type=kind, entity_name=name) for kind, name in names],
                ops=[
                    of.OpData(key=key, value=value or 0.0, remove=value is None)
                    for key, value in values.items()
                ],
            )
            for names, values in entries
        ],
        **settings,
    )


def a_question(*components, **settings):
    of = DescribeClientQuotasRequest
    return of(
        components=[
            of.ComponentData(entity_type=kind, match_type=match_type, match=name)
            for kind, match_type, name in components
        ],
        **settings,
    )


def names(entry):
    return [(each.entity_type, each.entity_name) for each in entry.entity]


def changed(response):
    return [(names(each), each.error_code, each.error_message) for each in response.entries]


def described(response):
    return [
        (names(entry), {each.key: each.value for each in entry.values})
        for entry in response.entries
    ]


ALICE = [("user", "alice")]
ALICES_APP = [("user", "alice"), ("client-id", "app")]
ANYBODY = [("user", None)]


@VERSIONS
@pytest.mark.parametrize("plane", ["data", "control"])
async def test_quotas_are_set_described_and_taken_away(lab, version, plane):
    response = await lab.ask(
        a_change(
            (ALICE, {"producer_byte_rate": 1e6, "request_percentage": 50.5}),
            (ALICES_APP, {"consumer_byte_rate": 2e6}),
            (ANYBODY, {"consumer_byte_rate": 3e6}),
        ),
        version,
        plane=plane,
    )
    app_of_alice = [("client-id", "app"), ("user", "alice")]
    assert changed(response) == [(ALICE, 0, None), (app_of_alice, 0, None), (ANYBODY, 0, None)]
    everything = await lab.ask(a_question(), version, plane=plane)
    assert (everything.error_code, everything.error_message) == (0, None)
    assert described(everything) == [
        (ALICE, {"producer_byte_rate": 1e6, "request_percentage": 50.5}),
        (app_of_alice, {"consumer_byte_rate": 2e6}),
        (ANYBODY, {"consumer_byte_rate": 3e6}),
    ]
    of_alice = await lab.ask(a_question(("user", EXACT, "alice"), strict=True), version)
    assert [each for each, _ in described(of_alice)] == [ALICE]
    of_anybody = await lab.ask(a_question(("user", DEFAULT, None)), version)
    assert [each for each, _ in described(of_anybody)] == [ANYBODY]
    with_clients = await lab.ask(a_question(("client-id", ANY, None)), version)
    assert [each for each, _ in described(with_clients)] == [app_of_alice]
    await lab.ask(
        a_change((ALICE, {"producer_byte_rate": None, "request_percentage": None})), version
    )
    assert len(described(await lab.ask(a_question(), version))) == 2


@VERSIONS
async def test_validation_only(lab, version):
    request = a_change((ALICE, {"producer_byte_rate": 1.0}), validate_only=True)

    assert changed(await lab.ask(request, version)) == [(ALICE, 0, None)]
    assert described(await lab.ask(a_question(), version)) == []


@VERSIONS
async def test_refusals_stand_beside_what_was_done(lab, version):
    response = await lab.ask(
        a_change(
            ([("foo", "x")], {"producer_byte_rate": 1.0}),
            (ALICE, {"producer_byte_rate": 1.0}),
            ([], {"producer_byte_rate": 1.0}),
            ([("user", "a"), ("user", "b")], {"producer_byte_rate": 1.5}),
        ),
        version,
    )
    refused = ErrorCode.INVALID_REQUEST

    assert changed(response) == [
        ([("foo", "x")], refused, "Unhandled client quota entity type: foo"),
        (ALICE, 0, None),
        ([], refused, "Invalid empty client quota entity"),
        ([("user", "b")], refused, "producer_byte_rate cannot be a fractional value."),
    ]


async def test_an_entity_of_many_kinds_is_refused_in_few_words(lab):
    kinds = [(kind, "x") for kind in ("user", "client-id", "ip", "foo", "bar", "baz")]
    response = await lab.ask(a_change((kinds, {"producer_byte_rate": 1.0})), 1)
    text = "Unhandled client quota entity type: foo"

    assert changed(response) == [(sorted(kinds[:4]), ErrorCode.INVALID_REQUEST, text)]


@VERSIONS
async def test_nothing_to_change(lab, version):
    assert changed(await lab.ask(a_change(), version)) == []
    assert changed(await lab.ask(a_change((ALICE, {})), version)) == [(ALICE, 0, None)]


@VERSIONS
async def test_bad_question_gets_no_entries(lab, version):
    response = await lab.ask(a_question(("user", EXACT, None)), version)

    assert response.error_code == ErrorCode.INVALID_REQUEST
    assert "MATCH_TYPE_EXACT" in response.error_message
    assert response.entries is None


async def test_too_much_at_once_is_refused_as_a_whole(lab, monkeypatch):
    monkeypatch.setattr(client_quotas, "_MAX_CHANGES", 1)
    response = await lab.ask(
        a_change((ALICE, {"producer_byte_rate": 1.0}), (ANYBODY, {"producer_byte_rate": 1.0})), 1
    )
    text = "Unable to perform excessively large batch operation."

    assert changed(response) == [
        (ALICE, ErrorCode.POLICY_VIOLATION, text),
        (ANYBODY, ErrorCode.POLICY_VIOLATION, text),
    ]


async def test_quotas_are_there_after_a_restart(open_lab, nursery, tmp_path):
    from trio_kafka_net.broker_server import open_broker
    from trio_kafka_net.config import BrokerConfig

    config = BrokerConfig(listeners=("PLAINTEXT://127.0.0.1:0",), log_dirs=(str(tmp_path / "d"),))
    (tmp_path / "d").mkdir()
    for number in range(2):
        async with open_broker(config) as broker:
            if not number:
                alteration = client_quotas.Alteration(
                    {"ip": "127.0.0.1"}, [("connection_creation_rate", 7.0)]
                )
                await broker.local.quotas.alter([alteration])
            quotas = broker.socket_server.data_plane.connection_quotas
            assert quotas.ip_rate("127.0.0.1") == 7


async def test_rates_of_addresses_are_those_of_the_data_plane(lab):
    await lab.ask(a_change(([("ip", "127.0.0.1")], {"connection_creation_rate": 1.0})), 1)
    for _ in range(3):
        await lab.ask(a_question(), 1, plane="control")
    await lab.ask(a_question(), 1)
    with pytest.raises(ConnectionClosedError):
        await lab.ask(a_question(), 1)
    await lab.ask(
        a_change(([("ip", "127.0.0.1")], {"connection_creation_rate": None})), 1, plane="control"
    )
    for _ in range(3):
        await lab.ask(a_question(), 1)

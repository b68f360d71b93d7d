"""InitProducerId."""

import pytest

from trio_kafka_net.broker import producer_ids
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import InitProducerIdRequest


def summary(response):
    return response.error_code, response.producer_id, response.producer_epoch


@pytest.mark.parametrize("version", range(6))
async def test_every_producer_gets_another_id(lab, version):
    answers = [
        summary(await lab.ask(InitProducerIdRequest(transactional_id=None), version))
        for _ in range(3)
    ]

    assert answers == [(0, 0, 0), (0, 1, 0), (0, 2, 0)]


async def test_id_that_a_producer_has_is_of_no_interest(lab):
    request = InitProducerIdRequest(transactional_id=None, producer_id=5, producer_epoch=3)

    assert summary(await lab.ask(request, 4)) == (0, 0, 0)


@pytest.mark.parametrize(("producer_id", "epoch"), [(5, -1), (-1, 5)])
async def test_id_without_epoch_is_refused(lab, producer_id, epoch):
    request = InitProducerIdRequest(
        transactional_id=None, producer_id=producer_id, producer_epoch=epoch
    )

    assert summary(await lab.ask(request, 3)) == (ErrorCode.INVALID_REQUEST, -1, -1)


@pytest.mark.parametrize("transactional_id", ["", "t"])
async def test_transactions_are_refused(lab, transactional_id):
    request = InitProducerIdRequest(transactional_id=transactional_id)

    assert summary(await lab.ask(request, 5)) == (ErrorCode.INVALID_REQUEST, -1, -1)


async def test_client_tries_again_when_no_ids_can_be_reserved(lab, monkeypatch):
    def fail(path, content):
        raise OSError("no space")

    request = InitProducerIdRequest(transactional_id=None)
    with monkeypatch.context() as patched:
        patched.setattr(producer_ids, "write_atomically", fail)
        refused = await lab.ask(request, 4)

    assert summary(refused) == (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, -1, -1)
    assert summary(await lab.ask(request, 4)) == (0, 0, 0)

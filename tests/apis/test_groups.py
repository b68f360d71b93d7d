"""FindCoordinator."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import FindCoordinatorRequest

GROUP, TRANSACTION, SHARE = range(3)


def answers(response, version):
    found = [response] if version < 4 else response.coordinators
    return [(each.error_code, each.node_id, each.host, each.port) for each in found]


@pytest.mark.parametrize("version", range(7))
async def test_coordinator_of_every_group_is_the_broker(lab, version):
    request = FindCoordinatorRequest(key="g", coordinator_keys=["g", "h"])

    response = await lab.ask(request, version)

    here = (0, 1, "127.0.0.1", lab.port())
    assert answers(response, version) == [here] * (1 if version < 4 else 2)
    assert response.error_code == 0
    if version >= 4:
        assert [each.key for each in response.coordinators] == ["g", "h"]


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize("key_type", [TRANSACTION, SHARE, 3, -1])
async def test_nobody_coordinates_anything_else(lab, version, key_type):
    """Every key says so since version 4; before, the answer as a whole does."""
    request = FindCoordinatorRequest(key="k", key_type=key_type, coordinator_keys=["k", "l"])

    response = await lab.ask(request, version)

    nowhere = (ErrorCode.INVALID_REQUEST, -1, "", -1)
    assert answers(response, version) == [nowhere] * (1 if version < 4 else 2)

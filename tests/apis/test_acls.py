"""ACLs, as a broker without an authorizer answers: Kafka's codes and texts."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import (
    CreateAclsRequest,
    DeleteAclsRequest,
    DescribeAclsRequest,
)

REFUSED = (ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")

pytestmark = [
    pytest.mark.parametrize("plane", ["data", "control"]),
    pytest.mark.parametrize("version", [1, 2, 3]),
]


async def test_there_are_none_to_describe(lab, version, plane):
    response = await lab.ask(DescribeAclsRequest(), version, plane=plane)

    assert response.error_code == ErrorCode.SECURITY_DISABLED
    assert response.error_message == "No Authorizer is configured on the broker"
    assert response.resources == []


async def test_each_one_that_shall_be_made_is_refused(lab, version, plane):
    creation = CreateAclsRequest.AclCreation(resource_name="t", principal="User:a", host="*")
    response = await lab.ask(CreateAclsRequest(creations=[creation] * 2), version, plane=plane)

    assert [(each.error_code, each.error_message) for each in response.results] == [REFUSED] * 2


async def test_each_filter_of_a_deletion_is_refused(lab, version, plane):
    response = await lab.ask(
        DeleteAclsRequest(filters=[DeleteAclsRequest.Filter()] * 2), version, plane=plane
    )

    assert [(each.error_code, each.error_message) for each in response.filter_results] == [
        REFUSED
    ] * 2

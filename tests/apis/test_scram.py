"""DescribeUserScramCredentials, where nobody has any."""

import pytest

from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import DescribeUserScramCredentialsRequest

UserName = DescribeUserScramCredentialsRequest.UserName


@pytest.mark.parametrize("users", [None, []])
async def test_there_are_none(lab, users):
    response = await lab.ask(DescribeUserScramCredentialsRequest(users=users), 0)

    assert (response.error_code, response.error_message, response.results) == (0, "", [])


async def test_users_who_are_named(lab):
    users = [UserName(name=name) for name in ("x", "y", "x")]
    response = await lab.ask(DescribeUserScramCredentialsRequest(users=users), 0)

    assert [(each.user, each.error_code, each.error_message) for each in response.results] == [
        (
            "x",
            ErrorCode.DUPLICATE_RESOURCE,
            "Cannot describe SCRAM credentials for the same user twice in a single request: x",
        ),
        (
            "y",
            ErrorCode.RESOURCE_NOT_FOUND,
            "Attempt to describe a user credential that does not exist: y",
        ),
    ]

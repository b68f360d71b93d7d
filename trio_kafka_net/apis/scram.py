"""DescribeUserScramCredentials, as a broker whose users have none answers it.

Versions: DescribeUserScramCredentials 0-0.
Behaviour:
    * nobody has SCRAM credentials, because there is no SASL yet; admin tools ask for them together
      with the quotas of users, and would show neither if the API were missing
    * a user who is named twice is DUPLICATE_RESOURCE, any other one RESOURCE_NOT_FOUND
Version notes:
    v0 is the only one (KIP-554)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trio_kafka_net.network.turn import Steps
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
)

from .context import RequestContext

if TYPE_CHECKING:
    from .registry import KafkaApis


def register(apis: KafkaApis) -> None:
    """Serve this family."""
    apis.add(describe_user_scram_credentials, key=DescribeUserScramCredentialsRequest.API_KEY)


def describe_user_scram_credentials(
    ctx: RequestContext, request: DescribeUserScramCredentialsRequest
) -> Steps[DescribeUserScramCredentialsResponse]:
    """Say of every user who is asked for that there are no credentials.

    Source: Kafka ``ScramImage.describe``.
    """
    times: Counter[str] = Counter()
    for user in request.users or ():
        times[user.name] += 1
        yield
    response = DescribeUserScramCredentialsResponse()
    for name, count in times.items():
        code = ErrorCode.RESOURCE_NOT_FOUND
        text = f"Attempt to describe a user credential that does not exist: {name}"
        if count > 1:
            code = ErrorCode.DUPLICATE_RESOURCE
            text = (
                "Cannot describe SCRAM credentials for the same user twice in a single request: "
                f"{name}"
            )
        response.results.append(
            DescribeUserScramCredentialsResponse.Result(
                user=name, error_code=code, error_message=text
            )
        )
        yield
    return response

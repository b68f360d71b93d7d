"""The table of what is served is what the modules register, and it imports them late."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Generator

import pytest

from trio_kafka_net import apis as package
from trio_kafka_net.apis.families import EAGER, LAZY
from trio_kafka_net.apis.registry import KafkaApis
from trio_kafka_net.network.turn import finish
from trio_kafka_net.protocol.api_keys import request_class
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ListGroupsRequest, ListGroupsResponse


def registered(name):
    apis = KafkaApis()
    importlib.import_module(f"trio_kafka_net.apis.{name}").register(apis)
    return apis


def test_every_module_that_registers_something_is_there():
    registering = {
        name
        for _, name, _ in pkgutil.iter_modules(package.__path__)
        if hasattr(importlib.import_module(f"trio_kafka_net.apis.{name}"), "register")
    }

    assert registering == {*EAGER, *LAZY}
    assert set(EAGER) & set(LAZY) == set()


@pytest.mark.parametrize("name", LAZY)
@pytest.mark.parametrize("unstable", [False, True])
def test_table_says_what_a_module_registers(name, unstable):
    told = KafkaApis.default()
    real = registered(name)

    assert set(LAZY[name]) == set(real._registrations)
    for key in LAZY[name]:
        here, there = (each.api(key, unstable=unstable) for each in (told, real))
        assert (here.min_version, here.max_version) == (there.min_version, there.max_version)


@pytest.mark.parametrize("name", LAZY)
def test_error_response_is_that_of_the_module(name):
    told = KafkaApis.default()
    real = registered(name)

    for key in LAZY[name]:
        answers = []
        for each in (told, real):
            api = each.api(key)
            request = request_class(key)()
            answer = api.error_response(request, ErrorCode.UNKNOWN_SERVER_ERROR, "x")
            answers.append(finish(answer) if isinstance(answer, Generator) else answer)
        assert answers[0] == answers[1]


def test_modules_are_imported_when_they_are_needed():
    program = (
        "import sys\n"
        "from trio_kafka_net.apis.registry import KafkaApis\n"
        "KafkaApis.default().table(is_control_plane=False)\n"
        "print(*[name for name in sys.modules if name.startswith('trio_kafka_net.apis.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = {name.rpartition(".")[2] for name in done.stdout.split()}

    assert set(EAGER) <= imported
    assert imported & set(LAZY) == set()


async def test_handler_that_replaces_one_of_them_keeps_its_error_response():
    apis = KafkaApis.default()

    @apis.handler(replace=True)
    def list_groups(ctx, request: ListGroupsRequest) -> ListGroupsResponse:
        return ListGroupsResponse()

    response = apis.api(ListGroupsRequest.API_KEY).error_response(
        ListGroupsRequest(), ErrorCode.INVALID_REQUEST, None
    )
    assert response.error_code == ErrorCode.INVALID_REQUEST

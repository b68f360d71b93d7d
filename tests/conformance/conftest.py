"""Brokers in processes of their own, and the clients to drive them with."""

import gc
import os
from pathlib import Path

import pytest

from tests.broker_process import BrokerProcess

from .cluster_process import ClusterProcess
from .drivers import DRIVERS, Kcat

_MAX_LINES = 3000


@pytest.fixture(scope="session")
def lines():
    """Lines of a real text file of this machine, without their ends."""
    path = Path("/var/log/dpkg.log")
    if not path.exists():
        path = Path(os.__file__).with_name("_pydecimal.py")
    return [line for line in path.read_bytes().split(b"\n") if line][:_MAX_LINES]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that the tests of a module share; they use different topics."""
    process = BrokerProcess(tmp_path_factory.mktemp("broker") / "data")
    process.start()
    yield process
    process.stop()


class OtherBroker:
    """A broker that somebody else started; see ``TRIO_KAFKA_NET_CONFORMANCE_BOOTSTRAP``."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap


_GROUP_OPTIONS = (
    *("--override", "group.initial.rebalance.delay.ms=0"),
    *("--override", "group.min.session.timeout.ms=1000"),
)


@pytest.fixture(scope="module")
def group_broker(tmp_path_factory):
    """A broker for consumer groups, shared by the tests of a module.

    ``TRIO_KAFKA_NET_CONFORMANCE_BOOTSTRAP`` names another one to run them against, Apache Kafka
    itself with the same settings, say: what it does not pass is a wrong test.
    """
    other = os.environ.get("TRIO_KAFKA_NET_CONFORMANCE_BOOTSTRAP")
    if other:
        yield OtherBroker(other)
        return
    process = BrokerProcess(tmp_path_factory.mktemp("broker") / "data", _GROUP_OPTIONS)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def fresh_group_broker(tmp_path):
    """A broker for consumer groups that the test may stop and kill."""
    process = BrokerProcess(tmp_path / "data", _GROUP_OPTIONS)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def fresh_broker(tmp_path):
    """A broker of the test's own, to be stopped and killed."""
    process = BrokerProcess(tmp_path / "data")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def cluster(tmp_path, caplog):
    """Three brokers of the test's own, which come and go as it wants."""
    # What clients say of brokers that are away; it would also keep their sockets alive.
    for client in ("kafka", "aiokafka"):
        caplog.set_level("CRITICAL", client)
    process = ClusterProcess(tmp_path / "data")
    yield process
    process.close()
    # kafka-python forgets sockets that could not connect. Who uses this fixture ignores warnings,
    # and nobody else shall get them.
    gc.collect()


def require(name):
    """Return a client; skip the test if it is kcat and not installed, unless CI demands it."""
    if name == "kcat" and not Kcat.is_installed():
        reason = "kcat is not installed (apt-get install kcat)"
        if os.environ.get("TRIO_KAFKA_NET_REQUIRE_KCAT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return DRIVERS[name]


@pytest.fixture(params=DRIVERS)
def producer_name(request):
    """Each client in turn, as producer."""
    require(request.param)
    return request.param


@pytest.fixture
def producer(producer_name):
    """The client of that name."""
    return DRIVERS[producer_name]


@pytest.fixture(scope="session")
def consumers():
    """Every client that is installed: {name: client}; kcat is missed only where it may be."""
    if os.environ.get("TRIO_KAFKA_NET_REQUIRE_KCAT") == "1":
        require("kcat")
    return {name: d for name, d in DRIVERS.items() if name != "kcat" or Kcat.is_installed()}

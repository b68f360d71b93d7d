"""The monitor reads metrics of a broker that may run anywhere, and needs nothing else of ours."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, types

# The package without its face, which imports the network layer for those who serve.
package = types.ModuleType("trio_kafka_net")
package.__path__ = [sys.argv[1]]
sys.modules["trio_kafka_net"] = package
for name in ("network", "protocol", "security", "broker", "apis", "broker_server", "observatory"):
    sys.modules["trio_kafka_net." + name] = None

import trio_kafka_net.monitor.app, trio_kafka_net.monitor.stream
"""


def test_the_monitor_works_without_a_broker_in_the_same_process():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "trio_kafka_net")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)

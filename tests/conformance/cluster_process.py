"""The brokers of ``cluster_program`` in their process, and the way to tell them what to do."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 30
"""How long the program may take for a command; it takes a fraction of a second."""


class ClusterProcess:
    """Three brokers that come and go as a test wants it."""

    def __init__(self, data_dir: Path, *overrides: str) -> None:
        """Start them, and wait until they serve.

        Args:
            data_dir: what they share.
            overrides: ``KEY=VALUE``, with Kafka's keys.
        """
        self.data_dir = data_dir
        self.log_path = data_dir.with_name(f"{data_dir.name}.stderr")
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.conformance.cluster_program", data_dir, *overrides],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.addresses: dict[int, str] = {int(n): told for n, told in self._answer().items()}
        """{node id: ``host:port`` of the data plane}, of all brokers, whether they run or not."""

    @property
    def bootstrap(self) -> str:
        """All of them, as clients take it."""
        return ",".join(self.addresses.values())

    @property
    def log(self) -> str:
        """What the program wrote to standard error."""
        return self.log_path.read_text(errors="replace")

    def kill(self, node_id: int) -> None:
        """Let a broker die."""
        self._command("kill", node_id)

    def stop(self, node_id: int) -> None:
        """Stop a broker in an orderly way."""
        self._command("stop", node_id)

    def start(self, node_id: int) -> None:
        """Start a broker that does not run."""
        self._command("start", node_id)

    def hold(self, node_id: int) -> None:
        """Let the replicas of a broker stay where they are."""
        self._command("hold", node_id)

    def release(self, node_id: int) -> None:
        """Let them follow again."""
        self._command("release", node_id)

    def close(self) -> None:
        """Stop all brokers, and see that the exit was clean and nothing went wrong on the way."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
        assert code == 0, f"exit code {code}\n{self.log}"
        assert "ERROR" not in self.log, self.log
        assert "Traceback" not in self.log, self.log

    def _command(self, name: str, node_id: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {node_id}\n")
        self.process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        # One answer at a time is under way, so nothing is left in the buffer of the file object.
        readable, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.process.kill()
            raise AssertionError(f"the cluster does not answer\n{self.log}")
        return json.loads(line)

"""A broker in a process of its own, started, stopped, killed and started again by tests."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 60


class BrokerProcess:
    """``python -m trio_kafka_net broker`` with one data directory.

    The first start takes free ports; every later one takes the same ports again, as clients that
    know the broker's address expect.
    """

    def __init__(self, data_dir: Path, options: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self.options = tuple(options)
        self.addresses: dict[str, tuple[str, int]] = {}
        self.log_path = data_dir.with_name(f"{data_dir.name}.stderr")
        self.process: subprocess.Popen[str] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` of the data plane."""
        host, port = self.addresses["data"]
        return f"{host}:{port}"

    @property
    def log(self) -> str:
        """What the broker wrote to standard error, over all its runs."""
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start the broker and wait for its ``ready`` line."""
        data, control = (self.addresses.get(plane, ("", 0))[1] for plane in ("data", "control"))
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "trio_kafka_net", "broker"),
                    *("--listener", f"PLAINTEXT://127.0.0.1:{data}"),
                    *("--control-plane-listener", f"CONTROLLER://127.0.0.1:{control}"),
                    *("--data-dir", str(self.data_dir)),
                    *("--metrics", "off"),
                    *self.options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read_until_ready()

    def _read_until_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        pending = b""
        fd = self.process.stdout.fileno()
        while b"ready\n" not in pending:
            readable, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(fd, 65536) if readable else b""
            if not chunk:
                self.kill()
                raise AssertionError(f"the broker did not get ready: {pending!r}\n{self.log}")
            pending += chunk
        *listening, ready = pending.decode().splitlines()
        assert ready == "ready"
        for line in listening:
            word, _, address, plane = line.split(" ")
            assert word == "listening"
            host, _, port = address.rpartition(":")
            self.addresses[plane] = (host, int(port))

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(STOP_SECONDS)
        self.process.stdout.close()
        self.process = None
        return code

    def stop(self) -> None:
        """Stop it gracefully, and see that the exit was clean."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.log}"

    def kill(self) -> None:
        """End it at once, as a crash would; nothing happens if it does not run."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.wait()

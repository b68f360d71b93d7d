"""The load generator in C, compiled on first use, and what it measured."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from peers import CACHE, HERE, Server

SOURCE = HERE / "load.c"


@attrs.frozen
class Figures:
    """One run; latencies in µs. Neither connecting nor the warm-up is in them."""

    rate: float
    """Requests per second."""
    p50: float
    p99: float
    p999: float
    cpu_us: float
    """What all threads of the server worked for a request, the kernel for them included."""


NO_ERROR_CODE = -1


def run_load(
    server: Server, connections: int, frame: bytes, seconds: float, zero_at: int = NO_ERROR_CODE
) -> Figures:
    """Send a frame on each connection, wait for its response, send it again.

    Args:
        server: on this machine, in a process of its own.
        connections: how many; they are made a few at a time, and all of them work before
            anything is measured.
        frame: with its size.
        seconds: how long is measured; a fifth of it passes before.
        zero_at: where in the response an error code must be 0.

    Raises:
        OSError: there is no C compiler.
        RuntimeError: the server refused or closed a connection, or did not answer for 10 s.
    """
    with load_held(server, connections, frame, seconds, zero_at) as figures:
        return figures


@contextmanager
def load_held(
    server: Server, connections: int, frame: bytes, seconds: float, zero_at: int = NO_ERROR_CODE
) -> Iterator[Figures]:
    """``run_load``, with all connections still open in the context, and silent."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(frame)
        file.flush()
        arguments = [server.port, server.pid, connections, file.name, seconds, zero_at]
        with subprocess.Popen(
            [_program(), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            figures = process.stdout.readline().split()
            if figures:
                yield Figures(*map(float, figures))
            _, complaint = process.communicate()
    if not figures:
        raise RuntimeError(f"load of {connections} connections: {complaint.strip()}")


@functools.cache
def _program() -> Path:
    program = CACHE / "load"
    if not program.exists() or SOURCE.stat().st_mtime > program.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        if shutil.which(compiler) is None:
            raise OSError(f"the load generator needs a C compiler, {compiler} is none")
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program

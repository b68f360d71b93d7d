"""The load generator in C, compiled on first use, and what it measured."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import attrs
from peers import CACHE, HERE

SOURCE = HERE / "load.c"


@attrs.frozen
class Figures:
    """One run; latencies in µs."""

    rate: float
    """Requests per second."""
    p50: float
    p99: float
    p999: float
    answered: float
    """Responses, those of the warm-up included."""


def run_load(
    port: int, connections: int, frame: bytes, seconds: float, zero_at: int | None = None
) -> Figures:
    """Send a frame on each connection, wait for its response, send it again.

    Args:
        port: of 127.0.0.1.
        connections: how many.
        frame: with its size.
        seconds: how long is measured; a fifth of it passes before.
        zero_at: where in the response an error code must be 0.

    Raises:
        RuntimeError: the server refused or closed a connection.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(frame)
        file.flush()
        arguments = [port, connections, file.name, seconds]
        if zero_at is not None:
            arguments.append(zero_at)
        done = subprocess.run(
            [_program(), "127.0.0.1", *map(str, arguments)], capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"load of {connections} connections: {done.stderr.strip()}")
    return Figures(*map(float, done.stdout.split()))


@functools.cache
def _program() -> Path:
    program = CACHE / "load"
    if not program.exists() or SOURCE.stat().st_mtime > program.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program

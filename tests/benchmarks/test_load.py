"""How the load generator is called, with a stand-in for the program."""

from __future__ import annotations

import load
import pytest
from peers import Server

SERVER = Server("ours", 9092, 4711)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    def install(script):
        program = tmp_path / "load"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(load, "_program", lambda: program)

    return install


def test_arguments_and_figures(stand_in, tmp_path):
    stand_in(
        f'echo "$1 $2 $3 $5 $6" > {tmp_path}/seen; cat "$4" >> {tmp_path}/seen\necho 1 2 3 4 5'
    )
    figures = load.run_load(SERVER, 50, b"frame", 1.5, 23)
    assert figures == load.Figures(rate=1, p50=2, p99=3, p999=4, cpu_us=5)
    assert (tmp_path / "seen").read_text() == "9092 4711 50 1.5 23\nframe"


def test_no_error_code_is_looked_at_unless_asked_for(stand_in, tmp_path):
    stand_in(f'echo "$6" > {tmp_path}/seen\necho 1 2 3 4 5')
    load.run_load(SERVER, 1, b"", 1)
    assert (tmp_path / "seen").read_text() == "-1\n"


def test_connections_are_held_until_the_context_ends(stand_in, tmp_path):
    stand_in(f"echo 1 2 3 4 5; cat; echo gone > {tmp_path}/seen")
    with load.load_held(SERVER, 1, b"", 1) as figures:
        assert figures.rate == 1
        assert not (tmp_path / "seen").exists()
    assert (tmp_path / "seen").exists()


def test_what_the_program_complains_about_is_raised(stand_in):
    stand_in("echo connection closed by the server >&2; exit 1")
    with pytest.raises(RuntimeError, match="50 connections: connection closed by the server"):
        load.run_load(SERVER, 50, b"", 1)


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "CACHE", tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(OSError, match="needs a C compiler, no-such-compiler"):
        load._program.__wrapped__()

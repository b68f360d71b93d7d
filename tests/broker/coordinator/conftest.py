"""Stores of offsets that are closed after the test."""

from __future__ import annotations

import pytest

from tests.broker.coordinator.store_helpers import StoreLab


@pytest.fixture
async def bare_lab(tmp_path, clock):
    """A store without its topic."""
    lab = await StoreLab.open(tmp_path / "data", clock)
    yield lab
    await lab.close()


@pytest.fixture
async def lab(bare_lab):
    """A store with its topic, of two partitions, and topics ``t`` and ``u``."""
    return await bare_lab.with_topics("t", "u")

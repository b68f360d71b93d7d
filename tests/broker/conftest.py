"""Fixtures over a directory and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker.storage_helpers import Clock, Storage, read_values, region_bytes
from trio_kafka_net.network.framing import FileRegion


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tmp_path: Path, clock: Clock) -> Storage:
    return Storage(tmp_path, clock)


@pytest.fixture
def read_region() -> Callable[[FileRegion | None], bytes]:
    return region_bytes


@pytest.fixture
def read_log() -> Callable[..., list[tuple[int, bytes]]]:
    return read_values

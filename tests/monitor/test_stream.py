"""Lines: one per interval, when there are rates, for as long as there is a broker."""

from __future__ import annotations

import json

import pytest
import trio

from tests.monitor.fake_source import FakeSource
from trio_kafka_net.monitor.http_client import SourceError
from trio_kafka_net.monitor.stream import StreamOptions, run_stream
from trio_kafka_net.monitor.window import Window


async def lines_of(source, options):
    lines = []
    await run_stream(source, options, Window(source=source.name), lines.append)
    return lines


async def test_the_first_line_comes_when_there_are_rates(autojump_clock):
    source = FakeSource()
    begin = trio.current_time()

    header, line = await lines_of(source, StreamOptions(count=1, interval_s=2.0))

    assert 2.0 == trio.current_time() - begin
    figures = dict(zip(header.replace("in MB", "in").split()[1:], line.split()[1:], strict=False))
    assert "10" == line.split()[4], figures
    assert "-" == line.split()[1], "what is not known is not 0"


async def test_lines_keep_to_their_interval_however_long_a_page_takes(autojump_clock):
    source = FakeSource()
    source.delay = 0.25

    await lines_of(source, StreamOptions(count=4))

    pauses = [b - a for a, b in zip(source.asked_at[1:], source.asked_at[2:], strict=False)]
    assert [1.0] * 3 == pauses


async def test_columns_stand_below_their_titles(autojump_clock):
    header, *lines = await lines_of(FakeSource(), StreamOptions(count=3))

    assert {len(header)} == {len(line) for line in lines}


async def test_without_a_header_there_is_none(autojump_clock):
    lines = await lines_of(FakeSource(), StreamOptions(count=3, with_header=False))

    assert 3 == len(lines)


async def test_raw_lines_have_base_units(autojump_clock):
    header, line = await lines_of(FakeSource(), StreamOptions(count=1, raw=True))

    assert "in B/s" in header
    assert len(header) == len(line)


async def test_while_a_broker_is_gone_there_are_no_lines(nursery, autojump_clock):
    source = FakeSource()
    lines = []
    nursery.start_soon(
        lambda: run_stream(source, StreamOptions(format="json"), Window(), lines.append)
    )
    await trio.sleep(3.5)
    source.is_reachable = False
    await trio.sleep(10)
    source.is_reachable = True
    await trio.sleep(2)
    nursery.cancel_scope.cancel()

    times = [json.loads(line)["time"] for line in lines]
    assert [1, 2, 3, 14, 15] == [round(time - times[0]) + 1 for time in times]


async def test_a_broker_that_is_not_there_at_first_is_an_error(autojump_clock):
    source = FakeSource()
    source.is_reachable = False

    with pytest.raises(SourceError, match="connection refused"):
        await lines_of(source, StreamOptions())

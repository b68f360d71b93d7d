"""`dump-log` and `api-versions`."""

import click.testing
import pytest
import trio

from trio_kafka_net.cli.main import cli
from trio_kafka_net.cli.tools import ask_api_versions, dump_lines
from trio_kafka_net.errors import StorageError
from trio_kafka_net.protocol.compression import Compression
from trio_kafka_net.protocol.headers import encode_response
from trio_kafka_net.protocol.messages import ApiVersionsResponse
from trio_kafka_net.protocol.records import Record, build_batch


@pytest.fixture
def segment(tmp_path):
    path = tmp_path / "00000000000000000000.log"
    path.write_bytes(
        build_batch([Record(timestamp=5, key=b"k", value=b"one"), Record(timestamp=6)])
        + build_batch(
            [Record(timestamp=7, value=b"\x1b[2J", headers=(("h", b""),))],
            base_offset=2,
            compression=Compression.ZSTD,
        )
    )
    return path


def test_dump_log_shows_a_line_per_batch(segment):
    first, second = dump_lines(segment, with_records=False)

    assert first.startswith("baseOffset: 0 lastOffset: 1 count: 2 baseSequence: -1 producerId: -1")
    assert "CreateTime: 6" in first
    assert first.endswith("isvalid: true")
    assert "baseOffset: 2 lastOffset: 2" in second
    assert "compresscodec: zstd" in second


def test_dump_log_shows_records_without_letting_them_write_to_the_terminal(segment):
    lines = list(dump_lines(segment, with_records=True))

    assert [line for line in lines if line.startswith("|")] == [
        "| offset: 0 timestamp: 5 keySize: 1 valueSize: 3 headerKeys: [] key: 'k' payload: 'one'",
        "| offset: 1 timestamp: 6 keySize: -1 valueSize: -1 headerKeys: []",
        "| offset: 2 timestamp: 7 keySize: -1 valueSize: 4 headerKeys: [h] payload: '\\x1b[2J'",
    ]


def test_dump_log_marks_a_batch_whose_checksum_is_wrong(segment):
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)

    first, second = dump_lines(segment, with_records=False)

    assert first.endswith("isvalid: true")
    assert second.endswith("isvalid: false")


def test_dump_log_stops_at_a_torn_tail_and_says_where(segment):
    whole = len(segment.read_bytes())
    segment.write_bytes(segment.read_bytes() + b"torn")

    lines = dump_lines(segment, with_records=False)

    assert len([next(lines), next(lines)]) == 2
    with pytest.raises(StorageError, match=f"position {whole}"):
        next(lines)


def test_dump_log_takes_a_directory_and_an_empty_segment(segment):
    (segment.parent / "00000000000000000003.log").write_bytes(b"")

    result = click.testing.CliRunner().invoke(cli, ["dump-log", str(segment.parent)])

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == [
        *("Dumping", "baseOffset:", "baseOffset:", "Dumping")
    ]


def test_dump_log_of_a_directory_without_segments_is_a_usage_error(tmp_path):
    assert click.testing.CliRunner().invoke(cli, ["dump-log", str(tmp_path)]).exit_code == 2


async def test_api_versions_asks_in_the_version_that_every_broker_answers():
    answer = ApiVersionsResponse(
        api_keys=[ApiVersionsResponse.ApiVersion(api_key=3, min_version=0, max_version=12)]
    )
    asked = []

    async def serve(stream):
        asked.append(await stream.receive_some())
        payload = b"".join(encode_response(answer, 0, 0))
        await stream.send_all(len(payload).to_bytes(4, "big") + payload)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)

        response = await ask_api_versions(*listeners[0].socket.getsockname()[:2])

        nursery.cancel_scope.cancel()
    assert response == answer
    assert asked[0][4:8] == b"\0\x12\0\0"


@pytest.mark.parametrize(
    ("address", "code"), [("127.0.0.1", 2), ("127.0.0.1:x", 2), ("127.0.0.1:1", 1)]
)
def test_api_versions_without_a_broker_fails_in_one_line(address, code):
    result = click.testing.CliRunner().invoke(cli, ["api-versions", address])

    assert result.exit_code == code
    assert result.output.splitlines()[-1].startswith(f"Error: {address}: ")

"""Small tools: ask a broker what it serves, and read log files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import trio

from trio_kafka_net.errors import CorruptRecordError, ProtocolError, StorageError
from trio_kafka_net.protocol.api_keys import ApiKey
from trio_kafka_net.protocol.error_codes import ErrorCode
from trio_kafka_net.protocol.messages import ApiVersionsRequest, ApiVersionsResponse
from trio_kafka_net.protocol.records import Record, RecordBatch, TimestampType, iter_batches
from trio_kafka_net.testing.client import RawClient

_ANSWER_SECONDS = 10


@click.command(name="api-versions")
@click.argument("address", metavar="host:port")
def api_versions(address: str) -> None:
    """List the APIs and versions that a broker serves on a listener."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit():
        raise click.UsageError(f"{address}: must be host:port")
    try:
        response = trio.run(ask_api_versions, host.strip("[]"), int(port))
    except trio.TooSlowError:
        raise click.ClickException(f"{address}: no answer in {_ANSWER_SECONDS} s") from None
    except (OSError, ProtocolError) as error:
        raise click.ClickException(f"{address}: {error}") from error
    if response.error_code:
        raise click.ClickException(f"{address}: {ErrorCode(response.error_code).name}")
    for api in sorted(response.api_keys, key=lambda api: api.api_key):
        name = ApiKey(api.api_key).name if api.api_key in set(ApiKey) else "UNKNOWN"
        click.echo(f"{api.api_key:>3}  {name:<36}  {api.min_version}-{api.max_version}")


async def ask_api_versions(host: str, port: int) -> ApiVersionsResponse:
    """Ask a broker for its API versions, in version 0, which every broker answers.

    Args:
        host: name or address.
        port: of any listener.

    Returns:
        The response.

    Raises:
        OSError: nobody listens there.
        RemoteProtocolError: whoever listens there speaks something else, or hangs up.
        trio.TooSlowError: no answer within ten seconds.

    Cancellation: the connection is closed.
    """
    with trio.fail_after(_ANSWER_SECONDS):
        async with await RawClient.connect(host, port, client_id="api-versions") as client:
            response: ApiVersionsResponse = await client.request(ApiVersionsRequest(), 0)
            return response


@click.command(name="dump-log")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--records", is_flag=True, help="Show the records as well.")
def dump_log(path: Path, records: bool) -> None:
    """Show the record batches of a segment file, or of every segment of a directory."""
    files = sorted(path.glob("*.log")) if path.is_dir() else [path]
    if not files:
        raise click.UsageError(f"{path}: no *.log file in it")
    for file in files:
        click.echo(f"Dumping {file}")
        for line in dump_lines(file, with_records=records):
            click.echo(line)


def dump_lines(path: Path, *, with_records: bool) -> Iterator[str]:
    """Describe a segment file, a line per batch and, if wanted, per record.

    Args:
        path: the ``.log`` file; it is mapped, so its size does not matter.
        with_records: whether batches are decompressed and their records shown.

    Yields:
        Lines in the manner of Kafka's dump tool: names and values, separated by blanks.

    Raises:
        StorageError: the file cannot be read, or what follows the lines so far is no batch.
    """
    position = 0
    with _mapped(path) as view:
        try:
            for batch in iter_batches(view):
                yield _batch_line(batch, position)
                position += batch.size_in_bytes
                if with_records:
                    yield from map(_record_line, batch.records())
        except CorruptRecordError as error:
            raise StorageError(f"{path}, position {position}: {error}") from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                yield memoryview(b"")
                return
            # Not closed by hand: slices of the view may outlive this block, and keep the map alive.
            yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _batch_line(batch: RecordBatch, position: int) -> str:
    values = {
        "baseOffset": batch.base_offset,
        "lastOffset": batch.last_offset,
        "count": batch.record_count,
        "baseSequence": batch.base_sequence,
        "producerId": batch.producer_id,
        "producerEpoch": batch.producer_epoch,
        "partitionLeaderEpoch": batch.partition_leader_epoch,
        "isTransactional": str(batch.is_transactional).lower(),
        "isControl": str(batch.is_control).lower(),
        "position": position,
        _timestamp_name(batch): batch.max_timestamp,
        "size": batch.size_in_bytes,
        "magic": batch.magic,
        "compresscodec": batch.compression.name.lower(),
        "crc": batch.crc,
        "isvalid": str(_is_valid(batch)).lower(),
    }
    return " ".join(f"{name}: {value}" for name, value in values.items())


def _timestamp_name(batch: RecordBatch) -> str:
    is_append_time = batch.timestamp_type is TimestampType.LOG_APPEND_TIME
    return "LogAppendTime" if is_append_time else "CreateTime"


def _is_valid(batch: RecordBatch) -> bool:
    try:
        batch.ensure_valid()
    except CorruptRecordError:
        return False
    return True


def _record_line(record: Record) -> str:
    headers = ",".join(name for name, _ in record.headers)
    return (
        f"| offset: {record.offset} timestamp: {record.timestamp} "
        f"keySize: {_size(record.key)} valueSize: {_size(record.value)} headerKeys: [{headers}]"
        f"{_shown('key', record.key)}{_shown('payload', record.value)}"
    )


def _size(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def _shown(name: str, value: bytes | None) -> str:
    # Escaped, so that a record cannot write to the terminal whatever it likes.
    return "" if value is None else f" {name}: {bytes(value).decode('utf-8', 'backslashreplace')!r}"

"""Exit codes: what a script can tell from how the program ended."""

import errno

import click.testing
import pytest

from trio_kafka_net.cli.main import cli, report
from trio_kafka_net.errors import ConfigError, LogDirFailedError, StorageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (StorageError("x"), 74),
        (LogDirFailedError("x"), 74),
        (OSError(errno.EADDRINUSE, "x"), 98),
        (OSError(errno.EADDRNOTAVAIL, "x"), 2),
        (OSError(errno.EACCES, "x"), 2),
        (OSError(errno.ENOSPC, "x"), 74),
        (OSError(errno.EIO, "x"), 70),
        (ValueError("x"), 70),
        (ExceptionGroup("g", [ExceptionGroup("g", [ConfigError("x")])]), 2),
        (ExceptionGroup("g", [ConfigError("x"), StorageError("y")]), 2),
        (ExceptionGroup("g", [ConfigError("x"), ValueError("y")]), 70),
    ],
)
def test_report_chooses_the_exit_code(error, code):
    assert report(error) == code


def test_report_says_expected_failures_in_one_line(caplog):
    report(ExceptionGroup("g", [OSError(errno.EADDRINUSE, "cannot listen on A://b:1: in use")]))

    assert [record.getMessage() for record in caplog.records] == [
        "cannot listen on A://b:1: in use"
    ]
    assert caplog.records[0].exc_info is None


def test_report_shows_where_an_internal_failure_comes_from(caplog):
    report(ValueError("x"))

    assert caplog.records[0].exc_info[1].args == ("x",)


@pytest.mark.parametrize("command", ["broker", "demo", "api-versions", "dump-log"])
def test_every_command_explains_itself(command):
    result = click.testing.CliRunner().invoke(cli, [command, "--help"])

    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_unknown_commands_are_usage_errors():
    assert click.testing.CliRunner().invoke(cli, ["brokr"]).exit_code == 2


def test_a_reader_that_has_seen_enough_is_no_failure(caplog):
    error = ExceptionGroup("nursery", [BrokenPipeError(errno.EPIPE, "Broken pipe")])
    assert 0 == report(error)
    assert not caplog.records

"""The root of the command line: subcommands, logging, exit codes.

How long ``broker`` takes to its first answer is mostly the time of imports, so a subcommand's
module is imported when the subcommand is called, and nothing heavy stands at the top of this one.
"""

from __future__ import annotations

import errno
import importlib
import logging
import sys
from collections.abc import Mapping

import click

from trio_kafka_net.cli.output import forget_output
from trio_kafka_net.errors import ConfigError, StorageError

EXIT_USAGE = 2
"""Usage or configuration; also click's code for usage errors."""
EXIT_INTERNAL = 70
"""A failure of the program itself."""
EXIT_STORAGE = 74
"""The data directory cannot be used, or what is printed cannot be written."""
EXIT_ADDRESS_IN_USE = 98
"""A listener's port is taken."""

_COMMANDS: Mapping[str, str] = {
    "broker": "trio_kafka_net.cli.broker:broker",
    "demo": "trio_kafka_net.cli.demo:demo",
    "monitor": "trio_kafka_net.cli.monitor:monitor",
    "api-versions": "trio_kafka_net.cli.tools:api_versions",
    "dump-log": "trio_kafka_net.cli.tools:dump_log",
}

_NO_OUTPUT = {errno.EPIPE, errno.ENOSPC}
"""Why what is printed may not be written."""

_log = logging.getLogger(__name__)


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup)
@click.version_option(package_name="trio-kafka-net", message="%(version)s")
def cli() -> None:
    """Kafka's network layer on trio, and a broker built on it."""


def main() -> None:
    """Run the command line and exit with its code.

    0 is a clean end, 2 usage or configuration, 70 an internal failure, 74 storage, 98 an address
    in use. What went wrong is one line on standard error; only an internal failure shows a
    traceback.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        cli(prog_name="trio-kafka-net")
    except Exception as error:
        leaves = _leaves(error)
        if any(isinstance(leaf, OSError) and leaf.errno in _NO_OUTPUT for leaf in leaves):
            forget_output()
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Log why the program ends, and choose its exit code.

    Args:
        error: what came out of the command; nurseries wrap it in groups of exceptions.

    Returns:
        The exit code. Several failures at once are reported one by one; the code is the internal
        failure's if there is one, else the first one's.
    """
    leaves = _leaves(error)
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return 0  # whoever read what is printed has seen enough
    codes = [_report_one(leaf) for leaf in leaves]
    return EXIT_INTERNAL if EXIT_INTERNAL in codes else codes[0]


def _report_one(error: BaseException) -> int:
    code = _exit_code(error)
    if code == EXIT_INTERNAL:
        _log.critical("internal failure", exc_info=error)
    else:
        _log.error("%s", error.strerror if isinstance(error, OSError) else error)
    return code


def _exit_code(error: BaseException) -> int:
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    if isinstance(error, StorageError):
        return EXIT_STORAGE
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return EXIT_ADDRESS_IN_USE
        if error.errno == errno.ENOSPC:
            return EXIT_STORAGE
        # A listener's address that is not this machine's, or a port only root may bind.
        if error.errno in {errno.EADDRNOTAVAIL, errno.EACCES}:
            return EXIT_USAGE
    return EXIT_INTERNAL


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]

"""The configuration of what a broker tells about itself."""

from __future__ import annotations

import attrs

from trio_kafka_net.errors import ConfigError

from .settings import setting

_OFF = "off"


@attrs.frozen(kw_only=True, slots=False)
class MetricsConfig:
    """What the metrics endpoint needs to know; Kafka has JMX for it, and reporters."""

    trio_metrics_listener: str | None = setting(
        None,
        "`host:port` of the HTTP endpoint for metrics and the monitor; port 0 takes a free one, no "
        "host is every address. If not set, or `off`, there is no endpoint; the command line sets "
        "127.0.0.1:9404. It has no authentication. While it is on, the last 200 warnings are kept.",
        kind=str,
    )
    trio_metrics_event_loop: bool = setting(
        True,
        "Whether the endpoint measures how long the event loop waits; costs about a microsecond "
        "per turn of the loop.",
    )

    def check_metrics(self) -> None:
        """Refuse what is no address.

        Raises:
            ConfigError: neither ``host:port`` nor ``off``.
        """
        _parse(self.trio_metrics_listener)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the endpoint; None if there is none."""
        return _parse(self.trio_metrics_listener)


def _parse(text: str | None) -> tuple[str, int] | None:
    if text is None or text.strip().lower() in {"", _OFF}:
        return None
    host, separator, port = text.strip().rpartition(":")
    if not (separator and port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ConfigError(
            f"trio.metrics.listener={text}: must be host:port, port from 0 to 65535, or off"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)

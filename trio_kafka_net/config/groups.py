"""The configuration of classic groups."""

from __future__ import annotations

import attrs

from trio_kafka_net.errors import ConfigError

from .settings import MAX_LONG, setting


@attrs.frozen(kw_only=True, slots=False)
class GroupConfig:
    """What the group coordinator needs to know.

    Source: Kafka ``GroupCoordinatorConfig``; names, defaults and units are its own.
    """

    group_min_session_timeout_ms: int = setting(
        6000, "Shortest session timeout that a member may ask for.", unit="ms"
    )
    group_max_session_timeout_ms: int = setting(
        1_800_000, "Longest session timeout that a member may ask for.", unit="ms"
    )
    group_initial_rebalance_delay_ms: int = setting(
        3000,
        "How long an empty group waits for more members after the first; each one that comes "
        "meanwhile makes it wait again, up to the rebalance timeout. 0 is good for tests.",
        unit="ms",
    )
    group_max_size: int = setting(
        2_147_483_647, "Most members of a group.", unit="members", at_least=1
    )
    trio_groups_max_bytes: int = setting(
        268_435_456,
        "Memory for members of all groups, with what they say about themselves. Above it new "
        "members are refused with GROUP_MAX_SIZE_REACHED.",
        unit="bytes",
        at_least=1,
        at_most=MAX_LONG,
    )

    def check_groups(self) -> None:
        """Refuse values that contradict each other.

        Raises:
            ConfigError: no session timeout is allowed.
        """
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms:
            raise ConfigError(
                f"group.min.session.timeout.ms={self.group_min_session_timeout_ms}: must not be "
                f"above group.max.session.timeout.ms, {self.group_max_session_timeout_ms}"
            )

"""What clients may use up: how quotas are measured, and what one request may ask for.

The quotas themselves are no configuration; they are set with AlterClientQuotas.
"""

from __future__ import annotations

import attrs

from .settings import setting


@attrs.frozen(kw_only=True, slots=False)
class QuotaConfig:
    """What the client quotas need to know.

    Source: Kafka ``QuotaConfig``, ``ServerConfigs``; names, defaults and units are its own.
    """

    quota_window_num: int = setting(
        11,
        "Windows over which bytes and request time of a client are averaged; all but one of them "
        "may be used up at once.",
        unit="windows",
        at_least=1,
    )
    quota_window_size_seconds: int = setting(
        1,
        "Length of such a window, and the longest delay for request time over its quota.",
        unit="s",
        at_least=1,
    )
    controller_quota_window_num: int = setting(
        11,
        "Windows' worth of topic changes that a client may have saved up.",
        unit="windows",
        at_least=1,
    )
    controller_quota_window_size_seconds: int = setting(
        1, "Length of such a window.", unit="s", at_least=1
    )
    max_request_partition_size_limit: int = setting(
        2000,
        "Partitions that one DescribeTopicPartitions response describes at most.",
        unit="partitions",
        at_least=1,
    )

"""Who a peer is, as far as anybody has established."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class KafkaPrincipal:
    """A user or another kind of client.

    Source: Kafka ``KafkaPrincipal``.
    """

    principal_type: str
    """``User`` for everything that Kafka itself knows."""
    name: str

    def __str__(self) -> str:
        return f"{self.principal_type}:{self.name}"


ANONYMOUS: Final = KafkaPrincipal("User", "ANONYMOUS")
"""Everybody on a listener without authentication."""

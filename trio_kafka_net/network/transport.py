"""How bytes leave and enter a connection, whatever protects them on the way.

A transport never blocks: a call that cannot make progress raises ``BlockingIOError``. The calls
of the plaintext transport are the socket's own bound methods, so that a connection reaches the
socket in one look-up.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

from .framing import FrameTransport


class TransportLayer(FrameTransport, Protocol):
    """A connected byte stream that never blocks.

    Source: Kafka ``TransportLayer``.
    """

    def fileno(self) -> int:
        """The descriptor to watch for readiness."""
        ...

    def end_sending(self) -> None:
        """Tell the peer that nothing follows what was sent; receiving goes on."""
        ...

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        ...


class PlaintextTransport:
    """A TCP (or Unix) socket as it is.

    Source: Kafka ``PlaintextTransportLayer``.
    """

    __slots__ = ("_socket", "recv_into", "send", "sendmsg")

    def __init__(self, sock: socket.socket) -> None:
        """Take over ``sock``, which must be connected; it is made non-blocking."""
        sock.setblocking(False)
        self._socket = sock
        self.recv_into = sock.recv_into
        self.send = sock.send
        self.sendmsg = sock.sendmsg

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._socket.fileno()

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of the file ``fd`` from ``offset``; returns how many.

        Raises:
            BlockingIOError: the socket takes nothing now.
            OSError: as the kernel reports it.
        """
        return os.sendfile(self._socket.fileno(), fd, offset, count)

    def end_sending(self) -> None:
        """Send a FIN after what was sent.

        Raises:
            OSError: the peer is gone.
        """
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; bytes that the kernel has taken are still delivered."""
        self._socket.close()

"""A listening socket and the endpoint it stands for."""

from __future__ import annotations

import socket

from trio_kafka_net.config import ListenerConfig, SocketServerConfig


class Listener:
    """One bound, listening socket.

    A port is bound before anything is served, so a port in use stops the start; connections that
    arrive before the Acceptor runs wait in the backlog.

    Source: Kafka ``Acceptor.openServerSocket``.
    """

    def __init__(self, config: ListenerConfig, server: SocketServerConfig) -> None:
        """Bind and listen at the host and port of ``config``.

        Raises:
            OSError: the address cannot be bound; the text names listener, host and port.
        """
        self.config = config
        """What the configuration says about it."""
        self.name = config.name
        self.is_control_plane = config.is_control_plane
        try:
            self.socket = _listen(config.host, config.port, server)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot listen on {config.name}://{config.host}:{config.port}: {error.strerror}",
            ) from error
        self._send_buffer_bytes = server.socket_send_buffer_bytes

    @property
    def bound_address(self) -> tuple[str, int]:
        """Host and port as the kernel has them; the port is real also when 0 was asked for."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def configure(self, accepted: socket.socket) -> None:
        """Set the options of an accepted socket.

        Raises:
            OSError: the peer is gone already, or the kernel refused.
        """
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._send_buffer_bytes != -1:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)

    def close(self) -> None:
        """Stop listening; connections in the backlog are reset by the kernel."""
        self.socket.close()


def _listen(host: str, port: int, server: SocketServerConfig) -> socket.socket:
    listening, address = _open(host, port)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if server.socket_receive_buffer_bytes != -1:
            # On the listening socket: accepted ones inherit it before the window is negotiated.
            listening.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, server.socket_receive_buffer_bytes
            )
        listening.bind(address)
        listening.listen(server.socket_listen_backlog_size)
    except BaseException:
        listening.close()
        raise
    return listening


def _open(host: str, port: int) -> tuple[socket.socket, tuple[str, int]]:
    """A socket of the right family, and the address to bind it to."""
    if not host and socket.has_dualstack_ipv6():
        everywhere = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        everywhere.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return everywhere, ("::", port)
    # Literal addresses and names alike; resolved once, before the loop serves anybody.
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.socket(family, kind, protocol), (str(address[0]), port)


def plain_address(host: str) -> str:
    """An IPv4 peer of a socket that serves both families, as the IPv4 address it is."""
    return host.removeprefix("::ffff:") if "." in host else host

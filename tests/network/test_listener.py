"""A listening socket and the options of what it accepts."""

from __future__ import annotations

import socket

import pytest

from trio_kafka_net.config import ListenerConfig, SocketServerConfig
from trio_kafka_net.network.listener import Listener, plain_address


@pytest.fixture
def listen():
    listeners = []

    def open_listener(host="127.0.0.1", **settings) -> Listener:
        config = ListenerConfig(name="PLAINTEXT", host=host, port=0)
        listeners.append(Listener(config, SocketServerConfig(**settings)))
        return listeners[-1]

    yield open_listener
    for listener in listeners:
        listener.close()


def test_the_backlog_takes_connections_before_anybody_accepts(listen):
    """SS-68."""
    listener = listen(socket_listen_backlog_size=128)
    clients = [socket.create_connection(listener.bound_address, timeout=5) for _ in range(128)]
    for client in clients:
        client.close()


def test_a_free_port_is_known_when_it_is_bound(listen):
    host, port = listen().bound_address
    assert host == "127.0.0.1"
    assert port > 0


@pytest.mark.parametrize("send_buffer_bytes", [-1, 65_536])
def test_accepted_sockets_get_their_options(listen, send_buffer_bytes):
    """No delay, keep-alive, and the buffer only if one is configured."""
    listener = listen(socket_send_buffer_bytes=send_buffer_bytes)
    with socket.create_connection(listener.bound_address):
        accepted, _ = listener.socket.accept()
        with accepted:
            untouched = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            listener.configure(accepted)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not accepted.getblocking()
            is_untouched = untouched == accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            assert (send_buffer_bytes == -1) == is_untouched


def test_accepted_sockets_inherit_the_receive_buffer(listen):
    """It is set before the bind, so that the window is negotiated with it."""
    sizes = [
        listen(socket_receive_buffer_bytes=size).socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF
        )
        for size in (32_768, 65_536)
    ]
    assert sizes[0] * 2 == sizes[1]


def test_a_host_that_is_not_ours_names_listener_host_and_port():
    config = ListenerConfig(name="EXTERNAL", host="192.0.2.1", port=9092)
    with pytest.raises(OSError, match=r"cannot listen on EXTERNAL://192\.0\.2\.1:9092"):
        Listener(config, SocketServerConfig())


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::1%eth0.100", "fe80::1%eth0.100"),
    ],
)
def test_an_ipv4_peer_has_an_ipv4_address(host, plain):
    """GX-12."""
    assert plain == plain_address(host)

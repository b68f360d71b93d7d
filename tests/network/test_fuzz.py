"""Random and mutated frames in random pieces: nothing unexpected, no leak, nobody else stalls.

A short run by default; ``TRIO_KAFKA_NET_FUZZ_FRAMES`` says how many frames. A long run wants
pytest's ``--timeout 3600 -o faulthandler_timeout=0``.
"""

from __future__ import annotations

import logging
import os
import random
import struct

import pytest
import trio

from trio_kafka_net import CloseConnection, RemoteProtocolError, Request
from trio_kafka_net.network.framing import Send

from .client import FrameClient
from .test_socket_server import settle

FRAMES = int(os.environ.get("TRIO_KAFKA_NET_FUZZ_FRAMES", "3000"))
MAX_FRAME = 2000


def parse(connection, payload) -> Request:
    """Refuses some payloads, as a header parser would."""
    if payload[:1] == b"\xff":
        raise RemoteProtocolError("begins with 0xff")
    return Request(connection, payload)


class Peer:
    """One hostile peer after the other, drawn from a seed."""

    def __init__(self, seed: int, port: int) -> None:
        self.random = random.Random(seed)
        self.port = port
        self.sent = 0

    def frame(self) -> bytes:
        draw = self.random
        payload = draw.randbytes(draw.choice([0, 1, 5, 100, draw.randrange(MAX_FRAME)]))
        whole = bytearray(struct.pack(">i", len(payload)) + payload)
        match draw.randrange(12):
            case 0:
                whole[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            case 1:
                whole = whole[: draw.randrange(len(whole))]
            case 2:
                whole[:4] = struct.pack(">i", draw.choice([-1, -(2**31), MAX_FRAME + 1, 2**31 - 1]))
            case 3:
                whole = bytearray(draw.randbytes(draw.randrange(1, 40)))
        return bytes(whole)

    def pieces(self, data: bytes) -> list[bytes]:
        if self.random.random() < 0.5:
            return [data]
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(3))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    async def attack(self) -> None:
        """One connection: some frames, then some end."""
        client = await FrameClient.connect(self.port)
        with trio.CancelScope() as reading:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.wait_closed)  # so that nobody waits for a full buffer
                try:
                    for _ in range(self.random.randrange(1, 30)):
                        self.sent += 1
                        for piece in self.pieces(self.frame()):
                            await client.stream.send_all(piece)
                    match self.random.randrange(3):
                        case 0:
                            await client.stream.send_eof()
                        case 1:
                            await client.stream.aclose()
                        case 2:
                            client.reset()
                except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                    pass
                reading.cancel()
        await client.stream.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("bounded", [False, True], ids=["unbounded", "2000 bytes of memory"])
async def test_fuzzed_peers_harm_nobody(serve, connect, caplog, bounded):
    def handler(request: Request):
        if request.payload[:1] == b"\xfe":
            raise CloseConnection("begins with 0xfe")
        return Send([b"a", request.payload[:100], b"b" * 300])

    with caplog.at_level(logging.ERROR):
        server = await serve(
            handler,
            parse=parse,
            socket_request_max_bytes=MAX_FRAME,
            queued_max_request_bytes=MAX_FRAME if bounded else -1,
            num_network_threads=2,
        )
        honest = await connect(server.bound_port())
        peers = [Peer(seed, server.bound_port()) for seed in range(4)]

        async def go_on(peer: Peer) -> None:
            while peer.sent * 2 * len(peers) < FRAMES:
                await peer.attack()

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as attacks:
                for peer in peers:
                    attacks.start_soon(go_on, peer)
                with trio.fail_after(3600):
                    while attacks.child_tasks:
                        assert b"apong" + b"b" * 300 == await honest.ask(b"pong")
            nursery.cancel_scope.cancel()
        await honest.stream.aclose()
        await settle(server)
    assert [] == caplog.records
    assert sum(peer.sent for peer in peers) * 2 >= FRAMES

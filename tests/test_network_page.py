"""docs/network.md says what runs: its examples, put together, serve."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import trio

from trio_kafka_net import (
    Connection,
    ListenerConfig,
    RemoteProtocolError,
    Request,
    SocketServer,
    SocketServerConfig,
)
from trio_kafka_net.network.framing import FileRegion, FrameTransport, Receive, Send
from trio_kafka_net.network.socket_server import answering

PAGE = Path(__file__).parent.parent / "docs" / "network.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_every_example_compiles():
    for example in examples():
        compile(f"async def example():\n{re.sub('(?m)^', '    ', example)}", "network.md", "exec")


async def ask(port: int, payload: bytes, host: str = "127.0.0.1") -> bytes:
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(struct.pack(">i", len(payload)) + payload)
        received = bytearray()
        while len(received) < 4 or len(received) < 4 + struct.unpack_from(">i", received)[0]:
            data = await stream.receive_some()
            if not data:
                raise EOFError
            received += data
        return bytes(received[4:])


async def test_the_handlers_and_requests_of_the_page(tmp_path):
    """shout, wait_for_news, Command with parse, download: as they stand there."""
    file = (tmp_path / "file").open("w+b")
    file.write(b"content")
    file.flush()
    names: dict[str, object] = {
        "Connection": Connection,
        "RemoteProtocolError": RemoteProtocolError,
        "Request": Request,
        "Receive": Receive,
        "FrameTransport": FrameTransport,
        "Send": Send,
        "FileRegion": FileRegion,
        "news": trio.Event(),
        "file": file,
        "size": 7,
    }
    for example in examples():
        if "trio.run" in example:
            example = example[example.index("def shout") : example.index("trio.run")]
        if "open_nursery" not in example:
            exec(example, names)

    def handler(request):
        verb = getattr(request, "verb", b"")
        return names[{b"down": "download", b"news": "wait_for_news"}.get(verb, "shout")](request)

    server = SocketServer(
        [
            ListenerConfig(name="PUBLIC", host="127.0.0.1", port=0),
            ListenerConfig(name="INTERNAL", host="::1", port=0),
            ListenerConfig(name="ADMIN", host="127.0.0.1", port=0, is_control_plane=True),
        ],
        handle=answering(handler),
        control_handle=answering(lambda request: b"control"),
        parse=names["parse"],
        config=SocketServerConfig(num_network_threads=2, num_io_threads=4, queued_max_requests=100),
    )
    names["server"] = server
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert b"SHOUT" == await ask(server.bound_port("PUBLIC"), b"shout")
        assert b"INSIDE" == await ask(server.bound_port("INTERNAL"), b"inside", "::1")
        assert b"control" == await ask(server.bound_port("ADMIN"), b"admin")
        assert b"headcontent" == await ask(server.bound_port("PUBLIC"), b"down")
        names["news"].set()
        assert b"news" == await ask(server.bound_port("PUBLIC"), b"news")
        await server.resize_network_threads(4)
        server.resize_io_threads(8)
        assert b"MORE" == await ask(server.bound_port("PUBLIC"), b"more")
        await server.stop()
    file.close()

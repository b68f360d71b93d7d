"""A framed echo server: 4 bytes of size and that many bytes, back as they came.

Run it, then talk to it:

    python examples/echo.py 9092
"""

import sys

import trio

from trio_kafka_net import Request, serve_frames


def echo(request: Request) -> memoryview:
    """The reply is framed for us, and the payload is not copied."""
    return request.payload


if __name__ == "__main__":
    trio.run(serve_frames, echo, int(sys.argv[1]) if len(sys.argv) > 1 else 9092)

"""A WebSocket handshake in, the bytes that follow it back out: enough to see that nobody reads them as HTTP."""

import asyncio
import base64
import hashlib
from typing import Any

from standin.wire import Connection

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Echo(asyncio.Protocol):
    """What a connection speaks from then on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        """Frames."""
        self._connection.tap.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._connection.connection_lost(exc)


def asked(scope: dict[str, Any]) -> bool:
    """Whether a request asks for a WebSocket."""
    return dict(scope["headers"]).get(b"upgrade", b"").lower() == b"websocket"


def accept(scope: dict[str, Any]) -> None:
    """Answers the handshake; uvicorn's protocol sees no further byte."""
    connection = scope["exchange"].connection
    key = dict(scope["headers"]).get(b"sec-websocket-key", b"")
    proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    connection.tap.write(head + b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n")
    connection.tap.transport.set_protocol(Echo(connection))

"""Bytes of a connection in and out through uvicorn's own protocol, each instant as a bracket of clock readings.

A bracket is (before, after) in nanoseconds of CLOCK_MONOTONIC. Reads: uvloop asks a buffered protocol for its
buffer directly before the read(2) (or SSL_read_ex) and reports directly after it, so the two callbacks enclose
the call. Writes: uvloop writes inside `transport.write` as long as nothing waits in its buffer; if the buffer
is empty afterwards the call happened between the two stamps. What stays in the buffer is watched until it
is gone, with a wider bracket.
"""

import asyncio
import socket
from collections import deque
from time import monotonic_ns
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Bracket = tuple[int, int]

READ_BYTES = 256 * 1024
WATCH_SECONDS = 0.001

# All connections live on one loop, which uses the buffer between two of its own callbacks only.
_READ_BUFFER = memoryview(bytearray(READ_BYTES))


class Write:
    """One `transport.write`: when its first and when its last byte left; `None` until then, or for ever."""

    __slots__ = ("begin", "end", "first", "last")

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.first: Bracket | None = None
        self.last: Bracket | None = None


class Tap:
    """The transport as uvicorn sees it, with a record of its latest write."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self.loop = loop
        self.latest: Write | None = None
        self.touched = monotonic_ns()
        self._waited = 0
        self._waits_since = 0
        self._written = 0
        self._waiting: deque[Write] = deque()
        self._looked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Writes, and stamps the call."""
        if not data:
            return
        write = self.latest = Write(self._written, self._written + len(data))
        before = monotonic_ns()
        self.transport.write(data)
        after = monotonic_ns()
        self._written = write.end
        if self.transport.is_closing():
            return
        self.touched = after
        left = self.transport.get_write_buffer_size()
        if left == 0 and not self._waiting:
            write.first = write.last = (before, after)
            return
        if not self._waiting:
            self._looked = self._waits_since = before
            self.loop.call_later(WATCH_SECONDS, self._watch)
        self._waiting.append(write)
        self._settle()

    def pending(self) -> bool:
        """Whether bytes wait in the buffer of a connection that may still send them."""
        return bool(self._waiting)

    def lost(self) -> None:
        """The connection is gone: what waits will never leave."""
        self._waited = self.waited()
        self._waiting.clear()

    def waited(self) -> int:
        """For how long bytes had to wait in all, nanoseconds at most."""
        return self._waited + (monotonic_ns() - self._waits_since if self._waiting else 0)

    def _watch(self) -> None:
        if self._waiting:
            self._settle()
        if self._waiting:
            self.loop.call_later(WATCH_SECONDS, self._watch)

    def _settle(self) -> None:
        """What has left the buffer did so after it was last seen there, and before now."""
        looked = monotonic_ns()
        gone = self._written - self.transport.get_write_buffer_size()
        bracket = (self._looked, monotonic_ns())
        self._looked = looked
        for write in self._waiting:
            if write.first is None and gone > write.begin:
                write.first = bracket
            if gone >= write.end:
                write.last = bracket
        while self._waiting and self._waiting[0].last:
            self._waiting.popleft()
        if not self._waiting:
            self._waited += bracket[1] - self._waits_since


class Exchange:
    """What the wire knows of one request."""

    def __init__(self, connection: "Connection", begun: Bracket) -> None:
        self.connection = connection
        self.begun = begun
        self.received: Bracket | None = None
        self.previous = connection.latest
        connection.latest = self
        self.finished: Bracket | None = None
        """Set by the truth when it has settled."""
        self._waited_before = connection.tap.waited()

    def waited(self) -> int | None:
        """For how long its bytes had to wait, nanoseconds at most: what waited behind them is in it.

        Under TLS they may wait behind the transport, where this is not known.
        """
        tap = self.connection.tap
        return None if tap.get_extra_info("sslcontext") else tap.waited() - self._waited_before


class Connection(asyncio.BufferedProtocol):
    """Between the loop and uvicorn's protocol; made where uvicorn would make its own."""

    def __init__(self, send_buffer_bytes: int | None, **settings: Any) -> None:
        self._send_buffer_bytes = send_buffer_bytes
        self.read: Bracket = (0, 0)
        self.gone: Bracket | None = None
        self.latest: Exchange | None = None
        self.fd = -1
        self.refusal: Write | None = None
        """uvicorn's own answer to bytes that are no HTTP."""
        self.tap: Tap | None = None
        self._before = 0
        self._inner = _Marked(self, **settings)

    def connection_made(self, transport: Any) -> None:
        """The loop accepted."""
        self.fd = transport.get_extra_info("socket").fileno()
        if self._send_buffer_bytes:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        self.tap = Tap(transport, asyncio.get_running_loop())
        self._before = monotonic_ns()
        self._inner.connection_made(self.tap)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Directly before the read."""
        self._before = monotonic_ns()
        return _READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Directly after it."""
        self.read = (self._before, monotonic_ns())
        self._inner.data_received(bytes(_READ_BUFFER[:nbytes]))

    def eof_received(self) -> None:
        """The client closed its side; under TLS no callback precedes the read that finds it."""
        self._leave(self._since() if self.tap.get_extra_info("sslcontext") else self._before)
        self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, by whichever side."""
        if self.gone is None:
            self._leave(self._since())
            # Where this side closes, uvloop calls close(2) after this callback, in the same turn of the loop.
            self.tap.loop.call_soon(self._closed)
        else:
            self.tap.lost()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """uvloop's buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has room again."""
        self._inner.resume_writing()

    def _since(self) -> int:
        """The last thing that surely came before the end."""
        return max(self.read[1], self.tap.touched)

    def _closed(self) -> None:
        self.gone = (self.gone[0], monotonic_ns())
        self.tap.lost()

    def _leave(self, since: int) -> None:
        if self.gone is None:
            self.gone = (since, monotonic_ns())


class _Marked(HttpToolsProtocol):
    """uvicorn's protocol, noting which read carried the first and the last byte of a request."""

    def __init__(self, outer: Connection, **settings: Any) -> None:
        super().__init__(**settings)
        self._outer = outer
        self._begun: Bracket = (0, 0)

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._outer.refusal = self._outer.tap.latest

    def on_message_begin(self) -> None:
        self._begun = self._outer.read
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.scope["exchange"] = Exchange(self._outer, self._begun)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.cycle.scope["exchange"].received = self._outer.read
        super().on_message_complete()

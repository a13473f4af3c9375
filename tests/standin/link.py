"""Bytes to and from a server, each received piece with the kernel's own time stamp.

Plain TCP only: SO_TIMESTAMPING stamps a segment when the kernel receives it, on CLOCK_REALTIME, so no delay of
this process is in it. TLS links and Unix sockets have no stamps.
"""

import asyncio
import socket
import ssl
import struct
from time import CLOCK_MONOTONIC
from time import CLOCK_REALTIME
from time import clock_gettime_ns

SO_TIMESTAMPING = 37
RX_SOFTWARE, SOFTWARE = 1 << 3, 1 << 4
READ_BYTES = 1 << 18
SMALL_SEGMENT = 536
PAIRS_KEPT = 8

Stamp = tuple[int, int]


class Clocks:
    """CLOCK_REALTIME in, CLOCK_MONOTONIC out, through the narrowest of the latest pairs of readings."""

    def __init__(self) -> None:
        self._pairs: list[tuple[int, int]] = []

    def tie(self) -> None:
        """One more pair: the wall is read between two monotonic readings."""
        before = clock_gettime_ns(CLOCK_MONOTONIC)
        wall = clock_gettime_ns(CLOCK_REALTIME)
        after = clock_gettime_ns(CLOCK_MONOTONIC)
        self._pairs = [*self._pairs[1 - PAIRS_KEPT :], (after - before, wall - (before + after) // 2)]

    def monotonic(self, wall: int) -> Stamp:
        """The instant, and by how much it may be off, nanoseconds."""
        width, offset = min(self._pairs)
        return wall - offset, -(-width // 2)


class Plain:
    """A TCP connection, or one to a Unix socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._clocks = Clocks()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, host: str, port: int, receive_buffer: int | None) -> "Plain":
        """Connects."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            # The kernel gives the other side a send buffer of several megabytes for the segments of loopback.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return cls(sock)

    @classmethod
    async def open_unix(cls, path: str) -> "Plain":
        """Connects."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Sends all of it."""
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> tuple[bytes, Stamp | None]:
        """What has arrived, with the stamp of its last segment; nothing at the end."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, 256)
                break
            except BlockingIOError:
                await self._readable()
        self._clocks.tie()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING:
                seconds, nanoseconds = struct.unpack_from("qq", value)
                return data, self._clocks.monotonic(seconds * 1_000_000_000 + nanoseconds)
        return data, None

    def close(self, reset: bool = False) -> None:
        """Leaves, with FIN or with RST."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def _readable(self) -> None:
        ready = self._loop.create_future()
        number = self._socket.fileno()
        self._loop.add_reader(number, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            self._loop.remove_reader(number)


class Tls:
    """A TLS connection; certificates are not verified."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int) -> "Tls":
        """Connects."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return cls(*await asyncio.open_connection(host, port, ssl=context))

    async def send(self, data: bytes) -> None:
        """Sends all of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> tuple[bytes, Stamp | None]:
        """What has arrived; nothing at the end."""
        return await self._reader.read(READ_BYTES), None

    def close(self, reset: bool = False) -> None:
        """Leaves."""
        if reset:
            self._writer.transport.abort()
        else:
            self._writer.close()


Link = Plain | Tls

"""A request's bytes in; its answer out, each read with the kernel's stamp of when its last segment came.

One connection, kept alive between requests; HTTP/1.1 only. Stamps are CLOCK_REALTIME in the kernel
and are given here as CLOCK_MONOTONIC nanoseconds. TLS is opened here, not by the socket, so a stamp is that of the
last ciphertext that the plain bytes lay in. A Unix socket has no stamps.
"""

import json
import socket
import ssl
import struct
import time
from urllib.parse import urlsplit

SO_TIMESTAMPING = 37
IDLE = 2.0  # seconds after which a connection is not used again: servers close theirs after 5
RX_SOFTWARE = (1 << 3) | (1 << 4)  # SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE


def real_minus_mono() -> int:
    """The distance of the two clocks in ns, from the tightest of five bracketed readings."""
    tries = []
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        tries.append((after - before, real - (before + after) // 2))
    return min(tries)[1]


class Chunked:
    """Transfer-encoded bytes in, the data of whole chunks out."""

    def __init__(self):
        self.held = b""
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        self.held += data
        whole = []
        while not self.done:
            line, found, rest = self.held.partition(b"\r\n")
            if not found:
                break
            size = int(line.split(b";")[0], 16)
            if len(rest) < size + 2:
                break
            self.held = rest[size + 2 :]
            if size == 0:
                self.done = True
            else:
                whole.append(rest[:size])
        return whole


class Sized:
    """Bytes of a body of known length in, the body out once it is whole."""

    def __init__(self, length: int):
        self.length, self.held = length, b""
        self.done = length == 0

    def feed(self, data: bytes) -> list[bytes]:
        self.held += data
        self.done = len(self.held) >= self.length
        return [self.held] if self.done else []


class Tls:
    """A connected socket in; what its ciphertext holds out. Certificates are not verified."""

    def __init__(self, connected: socket.socket):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket, self.coming, self.going = connected, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.coming, self.going)
        while True:
            try:
                self.session.do_handshake()
                return self.flush()
            except ssl.SSLWantReadError:
                self.flush()
                self.coming.write(connected.recv(65536) or self.ended())

    def ended(self) -> bytes:
        raise ConnectionError("closed inside the handshake")

    def flush(self) -> None:
        self.socket.sendall(self.going.read())

    def sendall(self, data: bytes) -> None:
        self.session.write(data)
        self.flush()

    def opened(self, data: bytes) -> bytes:
        """The plain bytes of all records that are whole with this."""
        self.coming.write(data)
        plain = b""
        try:
            while piece := self.session.read(65536):
                plain += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return plain


class Wire:
    """One keep-alive connection to the server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`."""

    def __init__(self, where: str):
        self.where = urlsplit(where)
        self.socket = None
        self.tls = None
        self.used = 0.0

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        if time.monotonic() - self.used > IDLE:
            self.close()
        if self.socket is None:
            self.connect()
        lines = [f"POST {path} HTTP/1.1", "Host: tiny", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}"] + [f"{name}: {value}" for name, value in headers.items()]
        (self.tls or self.socket).sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def connect(self) -> None:
        if self.where.scheme == "unix":
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(120)
            self.socket.connect(self.where.path)
            return
        self.socket = socket.create_connection((self.where.hostname, self.where.port), timeout=120)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = Tls(self.socket) if self.where.scheme == "https" else None

    def read(self) -> tuple[bytes, int | None]:
        """What has arrived, in plain, and the kernel's stamp of the last of it (CLOCK_REALTIME ns)."""
        while True:
            data, stamp = self.receive()
            plain = self.tls.opened(data) if self.tls and data else data
            if plain or not data:
                return plain, stamp

    def receive(self) -> tuple[bytes, int | None]:
        """What one recvmsg brings, and its stamp."""
        data, notes, _, _ = self.socket.recvmsg(65536, 512)
        self.used = time.monotonic()
        for level, kind, value in notes:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING:
                seconds, nanos = struct.unpack_from("qq", value)
                return data, seconds * 1_000_000_000 + nanos
        return data, None

    def head(self) -> tuple[int, object, bytes, int | None]:
        """Status, the body's decoder, bytes that came behind the head, and their stamp."""
        held, stamp = b"", None
        while b"\r\n\r\n" not in held:
            data, stamp = self.read()
            if not data:
                raise ConnectionError("closed before the response head")
            held += data
        head, _, rest = held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        chunked = fields.get("transfer-encoding") == "chunked"
        body = Chunked() if chunked else Sized(int(fields.get("content-length", 0)))
        return int(first.split(" ")[1]), body, rest, stamp

    def parts(self, body, rest: bytes, stamp: int | None):
        """Yields what each read completed: the chunks' data and the stamp."""
        while True:
            whole = body.feed(rest)
            if whole:
                yield whole, stamp
            if body.done:
                return
            rest, stamp = self.read()
            if not rest:
                raise ConnectionError("closed inside the response body")


def events(data: bytes) -> list[dict]:
    """The JSON of the server-sent events in whole chunks."""
    texts = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(text) for text in texts if text.strip() != b"[DONE]"]

"""Received pieces in, what the client saw of one response out: an incremental HTTP/1.1 and SSE reader."""

import json
from typing import Any

from standin.link import Stamp


class Response:
    """One response while it arrives. `feed` returns what belongs to the next one."""

    def __init__(self) -> None:
        self.done = False
        self.seen: dict[str, Any] = {
            "status": None,
            "first_byte": None,
            "first_content": None,
            "last": None,
            "id": None,
            "usage": None,
            "finish_reasons": {},
            "content_chunks": 0,
            "text_bytes": 0,
            "done_mark": False,
            "error": None,
        }
        self._buffer = b""
        self._left: int | None = None
        self._chunked = False
        self._headed = False
        self._events = b""
        self._stream = False
        self._body = b""

    def feed(self, data: bytes, stamp: Stamp | None) -> bytes:
        """Takes a received piece."""
        marks: dict[str, int] = {}
        units = 0
        self._buffer += data
        if not self._headed:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return b""
            self._head(head)
            self._buffer, units = rest, units + 1
            marks["first_byte"] = units
        while not self.done:
            part = self._part()
            if part is None:
                break
            units += 1
            before = self.seen["content_chunks"]
            if part:
                self._said(part)
            if before == 0 and self.seen["content_chunks"]:
                marks["first_content"] = units
        if self.done:
            marks["last"] = units
        for name, unit in marks.items():
            # The kernel's stamp is the last segment's: it is no stamp of what came earlier in the same read.
            joined = unit < units or bool(self.done and self._buffer)
            self.seen[name] = stamp and {"at": stamp[0], "error": stamp[1], "joined": joined}
        if self.done:
            if not self._stream:
                self._object(self._body)
            return self._buffer
        return b""

    def _head(self, head: bytes) -> None:
        self._headed = True
        first, *lines = head.decode("latin-1").split("\r\n")
        self.seen["status"] = int(first.split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._chunked = "chunked" in headers.get("transfer-encoding", "")
        self._left = int(headers["content-length"]) if "content-length" in headers else None
        self._stream = headers.get("content-type", "").startswith("text/event-stream")
        self.seen["close"] = headers.get("connection", "").lower() == "close"
        if self._left == 0:
            self.done = True

    def _part(self) -> bytes | None:
        """The next chunk, or the next bytes of a body with a length; `None` when more must arrive."""
        if self._chunked:
            size, end, rest = self._buffer.partition(b"\r\n")
            if not end or len(rest) < int(size, 16) + 2:
                return None
            length = int(size, 16)
            self._buffer = rest[length + 2 :]
            self.done = length == 0
            return rest[:length]
        if not self._buffer or self._left is None:
            return None
        part, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(part)
        self.done = self._left == 0
        return part

    def _said(self, part: bytes) -> None:
        if not self._stream:
            self._body += part
            return
        self._events += part
        *events, self._events = self._events.split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                self.seen["done_mark"] = True
            elif event.startswith(b"data: "):
                self._object(event[6:])

    def _object(self, raw: bytes) -> None:
        try:
            value = json.loads(raw)
        except ValueError:
            return
        seen = self.seen
        seen["id"] = value.get("id") or seen["id"]
        seen["usage"] = value.get("usage") or seen["usage"]
        seen["error"] = (value.get("error") or {}).get("type") or seen["error"]
        for choice in value.get("choices", []):
            said = choice.get("delta") or choice.get("message") or choice
            text = said.get("content") or said.get("reasoning_content") or said.get("text") or ""
            seen["content_chunks"] += bool(text)
            seen["text_bytes"] += len(text)
            if choice.get("finish_reason"):
                seen["finish_reasons"][choice["index"]] = choice["finish_reason"]

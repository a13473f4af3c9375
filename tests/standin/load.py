"""A mix (JSON) in; its requests sent to a server, and one JSON line per request of what the client saw out.

A mix: `{"concurrency": 8, "seed": 1, "kinds": [{"kind": "chat", "count": 20, …}]}`. Keys of a kind, all
optional but `kind` (a name) and `count`, are the fields of `Kind`.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import msgspec

from standin import openai
from standin.link import Link
from standin.link import Plain
from standin.link import Tls
from standin.responses import Response

DEMO = Path(__file__).parent / "mixes" / "demo.json"
TEMPERATURE_STEP = 1e-5
TEMPERATURES = 189_000
"""How many different ones lie between 0.1 and 2."""


class Kind(msgspec.Struct, forbid_unknown_fields=True):
    """Requests that are alike."""

    kind: str
    count: int
    path: str = openai.CHAT
    stream: bool = True
    body: dict[str, Any] = {}
    """Further fields of the body; they win over the ones made here."""
    prompt_bytes: int = 400
    prompts: int = 1
    """More than one makes a list (completions and embeddings)."""
    model_last: bool = False
    """Puts `model` behind the messages, whose text then looks like a model key."""
    raw: str | None = None
    """A body sent as it stands."""
    x_request_ids: float = 0.5
    """The share that brings an X-Request-Id."""
    same_x_request_id: bool = False
    traceparent: bool = False
    pipeline: int = 1
    """So many requests are written at once on one connection."""
    body_pieces: int = 1
    """The request is written in so many pieces."""
    piece_gap_ms: float = 5.0
    """Between two pieces: a slow upload."""
    abort_after_chunks: int | None = None
    abort_after_ms: float | None = None
    close: bool = False
    """A connection of its own for each request, closed by the server."""
    reset: bool = False
    """Leaves with RST instead of FIN."""
    stall_ms: float = 0.0
    """Before the first read, with a small receive buffer: a slow reader."""


class Mix(msgspec.Struct, forbid_unknown_fields=True):
    """What to send."""

    kinds: list[Kind]
    concurrency: int = 8
    seed: int | None = None
    """Without one, each run has its own order and identities."""
    in_order: bool = False
    """Kinds as they stand, instead of an order of chance."""
    model: str = "standin"


class Job:
    """One request to send."""

    def __init__(self, kind: Kind, number: int, mix: Mix, random_: random.Random) -> None:
        self.kind = kind
        self.temperature = round(0.1 + number % TEMPERATURES * TEMPERATURE_STEP, 5)
        self.x_request_id = f"req-{number:06d}" if random_.random() < kind.x_request_ids else None
        if kind.same_x_request_id:
            self.x_request_id = f"same-{kind.kind}"
        self.traceparent = f"00-{random_.getrandbits(128):032x}-{random_.getrandbits(64):016x}-01"
        self._mix = mix

    def encode(self, host: str) -> bytes:
        """The request's bytes."""
        body = self.kind.raw.encode() if self.kind.raw is not None else json.dumps(self._body()).encode()
        head = f"POST {self.kind.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        if self.x_request_id:
            head += f"X-Request-Id: {self.x_request_id}\r\n"
        if self.kind.close:
            head += "Connection: close\r\n"
        if self.kind.traceparent:
            head += f"traceparent: {self.traceparent}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _body(self) -> dict[str, Any]:
        kind = self.kind
        text = 'a "model": "wrong", ' if kind.model_last else "the quick brown fox "
        text = (text * (kind.prompt_bytes // len(text) + 1))[: kind.prompt_bytes]
        texts: Any = text if kind.prompts == 1 else [text] * kind.prompts
        said = {
            openai.CHAT: {"messages": [{"role": "user", "content": text}]},
            openai.COMPLETIONS: {"prompt": texts},
            openai.EMBEDDINGS: {"input": texts},
        }[kind.path]
        settings = {"temperature": self.temperature}
        if kind.path != openai.EMBEDDINGS:
            settings |= {"stream": kind.stream, "max_tokens": 16}
        parts = [said, settings, {"model": self._mix.model}] if kind.model_last else [
            {"model": self._mix.model}, said, settings
        ]
        merged: dict[str, Any] = {}
        for part in (*parts, kind.body):
            merged |= part
        return merged


class Client:
    """Connections to one server, and the file of what they saw."""

    def __init__(self, options: argparse.Namespace, out: Any) -> None:
        self.host, self.port, self.uds, self.tls = options.host, options.port, options.uds, options.tls
        self._out = out
        self.count = 0

    async def work(self, todo: Iterator[list[Job]]) -> None:
        """Takes batches until none are left, keeping the connection while it lasts."""
        link: Link | None = None
        for batch in todo:
            slow = batch[0].kind.stall_ms > 0
            if link is None or slow:
                link = await self._open(4096 if slow else None)
            keep = False
            try:
                keep = await self._exchange(link, batch)
            except OSError as error:
                self._write(batch[0], {"failed": str(error)}, None)
            if not keep or slow:
                link.close()
                link = None
        if link:
            link.close()

    async def _open(self, receive_buffer: int | None) -> Link:
        if self.uds:
            return await Plain.open_unix(self.uds)
        return await (Tls.open(self.host, self.port) if self.tls else Plain.open(self.host, self.port, receive_buffer))

    async def _exchange(self, link: Link, batch: list[Job]) -> bool:
        """Sends a batch at once and reads the responses in order; whether the connection can go on."""
        kind = batch[0].kind
        raw = b"".join(job.encode(f"{self.host}:{self.port}") for job in batch)
        begun = monotonic_ns()
        size = -(-len(raw) // kind.body_pieces)
        for start in range(0, len(raw), size):
            if start:
                await asyncio.sleep(kind.piece_gap_ms / 1000)
            await link.send(raw[start : start + size])
        sent = (begun, monotonic_ns())
        deadline = kind.abort_after_ms and asyncio.get_running_loop().time() + kind.abort_after_ms / 1000
        await asyncio.sleep(kind.stall_ms / 1000)
        rest = b""
        for job in batch:
            response = Response()
            left = False
            if rest:
                rest = response.feed(rest, None)
            while not response.done and not left:
                try:
                    async with asyncio.timeout_at(deadline):
                        data, stamp = await link.receive()
                except TimeoutError:
                    left = True
                    break
                if not data:
                    break
                rest = response.feed(data, stamp)
                chunks = response.seen["content_chunks"]
                left = not response.done and kind.abort_after_chunks is not None and chunks >= kind.abort_after_chunks
            how = "complete" if response.done else "aborted" if left else "closed"
            ended = [monotonic_ns()]
            if left:
                link.close(kind.reset)
                ended.append(monotonic_ns())
            self._write(job, {**response.seen, "end": how, "ended": ended}, sent)
            if not response.done or response.seen.get("close"):
                return False
        return True

    def _write(self, job: Job, seen: dict[str, Any], sent: tuple[int, int] | None) -> None:
        self.count += 1
        line = {
            "kind": job.kind.kind,
            "temperature": job.temperature,
            "x_request_id": job.x_request_id,
            "traceparent": job.traceparent if job.kind.traceparent else None,
            "sent": sent,
            **seen,
        }
        self._out.write(json.dumps(line) + "\n")


def batches(mix: Mix, first: int, seed: int) -> list[list[Job]]:
    """All requests of a mix in their order; those that are pipelined stay together."""
    random_ = random.Random(seed)
    made, number = [], first
    for kind in mix.kinds:
        jobs = [Job(kind, number + index, mix, random_) for index in range(kind.count)]
        number += kind.count
        made += [jobs[start : start + kind.pipeline] for start in range(0, len(jobs), kind.pipeline)]
    if not mix.in_order:
        random_.shuffle(made)
    return made


async def _run(options: argparse.Namespace, mix: Mix, out: Any) -> int:
    client = Client(options, out)
    numbers = itertools.count(options.first, sum(kind.count for kind in mix.kinds))
    rounds = numbers if options.repeat else [next(numbers)]
    seed = random.getrandbits(32) if mix.seed is None else mix.seed
    todo = itertools.chain.from_iterable(batches(mix, first, seed) for first in rounds)
    workers = [asyncio.create_task(client.work(todo)) for _ in range(mix.concurrency)]
    _, late = await asyncio.wait(workers, timeout=options.seconds)
    for worker in late:
        worker.cancel()
    await asyncio.wait(workers)
    failures = {repr(worker.exception()) for worker in workers if not worker.cancelled() and worker.exception()}
    for failure in sorted(failures):
        print(f"load: {failure}", file=sys.stderr)
    if late and not options.repeat:
        failures.add("late")
    print(f"load: seed {seed}, {client.count} requests, {len(late)} connections cut by the end of time", file=sys.stderr)
    return 1 if failures else 0


def main(arguments: list[str]) -> int:
    """`python -m standin load …`."""
    parser = argparse.ArgumentParser(prog="standin load", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int)
    place.add_argument("--uds", help="the server's Unix socket")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--mix", type=Path, help="JSON file; without one, a lively mix is repeated")
    parser.add_argument("--repeat", action="store_true", help="again and again, until the time is up")
    parser.add_argument("--out", default=os.devnull, help="JSON lines are appended to this file")
    parser.add_argument("--seconds", type=float, help="gives up after so long")
    parser.add_argument("--first", type=int, default=0, help="number of the first request; makes temperatures unique")
    options = parser.parse_args(arguments)
    options.repeat |= options.mix is None
    mix = msgspec.json.decode((options.mix or DEMO).read_bytes(), type=Mix)
    with open(options.out, "a", encoding="utf-8", buffering=1) as out:
        return asyncio.run(_run(options, mix, out))

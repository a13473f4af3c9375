"""HTTP requests in, streams and bodies out: the ASGI application, with the order of writes that vLLM has."""

import asyncio
import gzip
import traceback
import zlib
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

from standin import openai
from standin import upgrade
from standin.frontend import Delta
from standin.frontend import Engine
from standin.frontend import EngineDead
from standin.frontend import Prompt
from standin.openai import Ask
from standin.openai import Refusal
from standin.scenario import Scenario
from standin.truth import Case
from standin.truth import Truth

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

KEEPALIVE_SECONDS = 0.06
CALLS = {"/sleep": "sleep", "/wake_up": "wake_up", "/throttle": "throttle", "/unthrottle": "unthrottle"}
"""Paths, and the engine core's name for what they do: two that vLLM serves in its development mode, and two of ours."""


class Broken(Exception):
    """The server breaks off, as asked."""


class Reply:
    """The response to one request: every write leaves its mark in the case."""

    def __init__(self, case: Case, send: Send) -> None:
        self._case, self._send = case, send

    async def head(self, status: int, kind: bytes, length: int | None) -> None:
        """The response head."""
        headers = [(b"content-type", kind)]
        if length is not None:
            headers.insert(0, (b"content-length", str(length).encode()))
        self._case.fields["status"] = status
        await self._stamped("head", {"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, name: str, body: bytes) -> bool:
        """A piece of a stream; whether it could still be written."""
        return await self._stamped(name, {"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """The last piece."""
        await self._stamped("end", {"type": "http.response.body", "body": body, "more_body": False})

    async def whole(self, status: int, body: bytes) -> None:
        """A JSON response that is no stream."""
        await self.head(status, b"application/json", len(body))
        await self.end(body)

    async def _stamped(self, name: str, message: dict[str, Any]) -> bool:
        tap = self._case.exchange.connection.tap
        before = tap.latest
        await self._send(message)
        written = tap.latest is not before
        self._case.wrote(name, tap.latest if written else None)
        return written and not tap.is_closing()


class Handler:
    """One inference request on its way through the front end."""

    def __init__(self, engine: Engine, scenario: Scenario, case: Case, send: Send) -> None:
        self.engine, self.scenario, self.case = engine, scenario, case
        self.reply = Reply(case, send)

    async def run(self, raw: bytes) -> None:
        """Answers it."""
        try:
            ask = openai.read(self.case.fields["path"], raw, self.case.fields["x_request_id"], self.scenario)
            self._note(ask)
            if ask.stream:
                await self._stream(ask)
            else:
                await self._whole(ask)
        except Refusal as refusal:
            self.case.fields["refused"] = True
            await self.reply.whole(refusal.status, refusal.body())

    def _note(self, ask: Ask) -> None:
        self.case.fields.update(
            response_id=ask.id, model=ask.model, stream=ask.stream, n=ask.n, usage=ask.usage or not ask.stream
        )

    async def _submit(self, ask: Ask) -> None:
        for index, tokens in enumerate(ask.tokens):
            params = {} if ask.pooling else ask.params(tokens, self.scenario)
            prompt = Prompt(ask.external_id(index), tokens, params, ask.stop, 1 if ask.pooling else ask.n)
            self.case.prompts.append(prompt)
            await self.engine.add(prompt, ask.pooling)

    async def _whole(self, ask: Ask) -> None:
        try:
            await self._submit(ask)
            choices: list[dict[str, Any]] = []
            for number, prompt in enumerate(self.case.prompts):
                sums = {index: Delta() for index in range(prompt.n)}
                while not all(total.finish for total in sums.values()):
                    for index, delta in (await prompt.fetch()).items():
                        total = sums[index]
                        total.text, total.tokens = total.text + delta.text, total.tokens + delta.tokens
                        total.finish, total.stop_reason = delta.finish, delta.stop_reason
                for index, total in sums.items():
                    if total.finish == "error":
                        raise EngineDead
                    choices.append(
                        ask.choice(number * prompt.n + index, total.text, total.finish, total.stop_reason)
                    )
        except EngineDead:
            body = openai.error_body(500, "InternalServerError", "EngineCore encountered an issue.")
            self.case.fields["error"] = True
            await self.reply.whole(500, body)
            return
        self._deliver_all()
        size = self.scenario.embedding_size
        body = ask.embeddings(size, self._usage()) if ask.pooling else ask.whole(choices, self._usage())
        if not ask.pooling:
            self.case.fields["finish_reasons"] = [choice["finish_reason"] for choice in choices]
        await self.reply.whole(200, body)

    async def _stream(self, ask: Ask) -> None:
        gap = ask.extra.get("gap_ms", 0) / 1000
        await self.reply.head(200, b"text/event-stream; charset=utf-8", None)
        if gap:
            await asyncio.sleep(gap)
            await self.reply.part("comment", b": keep-alive\n\n")
            await asyncio.sleep(gap)
        try:
            await self._submit(ask)
            await self._deltas(ask, gap)
        except EngineDead:
            self.case.fields["error"] = True
            error = openai.error_body(500, "InternalServerError", "EngineCore encountered an issue.")
            await self.reply.part("error", b"data: " + error + b"\n\n")
        else:
            if ask.usage:
                await self.reply.part("usage", ask.usage_chunk(self._usage()))
        await self.reply.part("done", b"data: [DONE]\n\n")
        await self.reply.end()

    async def _deltas(self, ask: Ask, gap: float) -> None:
        finishes: dict[int, str] = {}
        self.case.fields["finish_reasons"] = []
        open_prompts = {
            asyncio.ensure_future(prompt.fetch()): (number, prompt) for number, prompt in enumerate(self.case.prompts)
        }
        greeted = not ask.chat
        try:
            while open_prompts:
                keepalive = KEEPALIVE_SECONDS if ask.extra.get("keepalive") else None
                done, _ = await asyncio.wait(open_prompts, timeout=keepalive, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    await self.reply.part("comment", b": keep-alive\n\n")
                for task in done:
                    number, prompt = open_prompts.pop(task)
                    deltas = task.result()
                    if not greeted:
                        greeted = True
                        await self._greet(ask, gap)
                    for index, delta in sorted(deltas.items()):
                        choice = number * prompt.n + index
                        await self._delta(ask, prompt, index, choice, delta)
                        if delta.finish:
                            finishes[choice] = delta.finish
                            self.case.fields["finish_reasons"] = [finishes[key] for key in sorted(finishes)]
                    if not all(number * prompt.n + index in finishes for index in range(prompt.n)):
                        open_prompts[asyncio.ensure_future(prompt.fetch())] = (number, prompt)
        finally:
            for task in open_prompts:
                task.cancel()

    async def _greet(self, ask: Ask, gap: float) -> None:
        for choice in range(ask.n):
            await self.reply.part("role", ask.role_chunk(choice))
        if gap:
            await asyncio.sleep(gap)
            await self.reply.part("empty", ask.chunk(0, "", None, None))
            await asyncio.sleep(gap)

    async def _delta(self, ask: Ask, prompt: Prompt, index: int, choice: int, delta: Delta) -> None:
        if delta.finish == "error":
            raise EngineDead
        kind = "first_content" if delta.text else "chunk"
        if await self.reply.part(kind, ask.chunk(choice, delta.text, delta.finish, delta.stop_reason)):
            self.case.deliver(prompt.children[index], delta.tokens)
        if delta.text:
            self.case.content_writes += 1
        if self.case.content_writes == ask.extra.get("break_after"):
            raise Broken

    def _deliver_all(self) -> None:
        for prompt in self.case.prompts:
            for child in prompt.children:
                self.case.deliver(child, sum(tokens for _, tokens in child.steps))

    def _usage(self) -> dict[str, Any]:
        prompts = self.case.prompts
        cached = sum(prompt.cached for prompt in prompts)
        completion = sum(self.case.delivered.values())
        return openai.usage(sum(prompt.tokens for prompt in prompts), completion, cached, self.scenario)


class App:
    """The routes."""

    def __init__(self, engine: Engine, scenario: Scenario, truth: Truth) -> None:
        self.engine, self.scenario, self.truth = engine, scenario, truth

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        path, method = scope["path"], scope["method"]
        if method == "POST" and path in openai.ID_PREFIX:
            await self._infer(scope, receive, send)
        elif path == "/health":
            await _answer(send, 503 if self.engine.dead else 200, b"text/plain", b"")
        elif method == "POST" and path in CALLS:
            await self.engine.call(CALLS[path])
            await _answer(send, 200, b"text/plain", b"")
        elif path == "/metrics":
            await _answer(send, 200, b"text/plain; version=0.0.4; charset=utf-8", self._metrics())
        elif path == "/v1/models":
            models = {"object": "list", "data": [{"id": self.scenario.model, "object": "model", "owned_by": "vllm"}]}
            await _answer(send, 200, b"application/json", openai.encode(models))
        elif path == "/v1/realtime" and upgrade.asked(scope):
            upgrade.accept(scope)
            await _left(receive)
        else:
            await _answer(send, 404, b"application/json", b'{"detail":"Not Found"}')

    async def _infer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        x_request_id = headers[b"x-request-id"].decode() if b"x-request-id" in headers else None
        case = Case(scope["exchange"], scope["method"], scope["path"], x_request_id)
        case.fields["traceparent"] = headers[b"traceparent"].decode() if b"traceparent" in headers else None
        raw = await _body(receive)
        if raw is None:
            self.truth.end(case, "client_gone")
            return
        case.fields["temperature"] = _temperature(raw)
        if headers.get(b"content-encoding") == b"gzip":
            raw = _unzipped(raw)
        handler = Handler(self.engine, self.scenario, case, send)
        work = asyncio.ensure_future(handler.run(raw))
        left = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The server ends, and does not wait for whoever is still served.
            self.truth.end(case, "server_closed")
            raise
        gone = not work.done()
        for task in (work, left):
            task.cancel()
        await asyncio.wait({work, left})
        await self.engine.abort(case.prompts)
        if gone:
            self.truth.end(case, "client_gone")
        elif error := work.exception():
            if not isinstance(error, Broken):
                traceback.print_exception(error)
            self.truth.end(case, "server_closed")
            raise error
        else:
            self.truth.end(case, "complete")

    def _metrics(self) -> bytes:
        stats, labels = self.engine.stats, f'{{engine="0",model_name="{self.scenario.model}"}}'
        gauges = (
            ("num_requests_running", "Number of requests in model execution batches.", stats.num_running_reqs),
            ("num_requests_waiting", "Number of requests waiting to be processed.", stats.num_waiting_reqs),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", stats.kv_cache_usage),
        )
        lines = [
            f"# HELP vllm:{name} {text}\n# TYPE vllm:{name} gauge\nvllm:{name}{labels} {float(value)}\n"
            for name, text, value in gauges
        ]
        return "".join(lines).encode()


def _temperature(raw: bytes) -> float | None:
    """The hidden identity of a request, also of one that will be refused."""
    try:
        value = openai.msgspec.json.decode(raw)["temperature"]
    except (*openai.UNREADABLE, KeyError, TypeError):
        return None
    return value if isinstance(value, int | float) else None


def _unzipped(raw: bytes) -> bytes:
    """As a middleware before vLLM may do; what is not gzip stays, and will be refused."""
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error):
        return raw


async def _body(receive: Receive) -> bytes | None:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

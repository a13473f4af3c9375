"""Prompts in, merged deltas out: the front end's half of the engine, with vLLM's sockets and its output processing.

Stop strings are matched here and end in an ABORT; a caller that left ends in one too.
"""

import asyncio
import time
import uuid
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from standin import messages
from standin.core import IDENTITY

CHUNK_OUTPUTS = 128
FINISH_NAMES = ("stop", "length", "abort", "error", "repetition")


class EngineDead(Exception):
    """The engine core is gone."""


def token_text(token: int) -> str:
    """The text of a token id."""
    return f" t{token}"


def request(prompt: "Prompt", engine_id: str, pooling: bool) -> messages.Request:
    """The payload of the ADD for one of a prompt's children."""
    return messages.Request(
        request_id=engine_id,
        prompt_token_ids=[token % 50_000 for token in range(prompt.tokens)],
        mm_features=None,
        sampling_params=None if pooling else prompt.params,
        pooling_params={"task": "embed"} if pooling else None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id=prompt.external_id,
    )


class Delta:
    """What is new for one choice."""

    __slots__ = ("text", "tokens", "finish", "stop_reason")

    def __init__(self) -> None:
        self.text, self.tokens = "", 0
        self.finish: str | None = None
        self.stop_reason: int | str | None = None


class Child:
    """One engine request, as the front end follows it, and the truth about it."""

    def __init__(self, prompt: "Prompt", index: int, engine_id: str) -> None:
        self.prompt, self.index, self.id = prompt, index, engine_id
        self.tail = ""
        self.finish: str | None = None
        self.steps: list[tuple[float, int]] = []
        """Timestamps and tokens that were taken over, up to the end that the caller sees."""


class Prompt:
    """One prompt with its children; collects deltas until the handler fetches them, merging what is late."""

    def __init__(self, external_id: str, tokens: int, params: dict[str, Any], stop: list[str], n: int) -> None:
        self.external_id, self.tokens, self.params, self.stop, self.n = external_id, tokens, params, stop, n
        self.children: list[Child] = []
        self.cached = 0
        self.dead = False
        self._deltas: dict[int, Delta] = {}
        self._ready = asyncio.Event()

    async def fetch(self) -> dict[int, Delta]:
        """Waits for news; by choice."""
        await self._ready.wait()
        if self.dead:
            raise EngineDead
        self._ready.clear()
        deltas, self._deltas = self._deltas, {}
        return deltas

    def delta(self, index: int) -> Delta:
        """Where news of a choice goes."""
        self._ready.set()
        return self._deltas.setdefault(index, Delta())

    def die(self) -> None:
        """The engine is gone."""
        self.dead = True
        self._ready.set()


class Engine:
    """The client of the engine core."""

    def __init__(self, input_address: str, output_address: str) -> None:
        context = zmq.asyncio.Context(zmq.Context(io_threads=2))
        self._input = context.socket(zmq.ROUTER)
        self._output = context.socket(zmq.PULL)
        for socket in (self._input, self._output):
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
        self._input.setsockopt(zmq.SNDHWM, 0)
        self._input.bind(input_address)
        self._output.bind(output_address)
        self._encoder = messages.Encoder()
        self._children: dict[str, Child] = {}
        self._task: asyncio.Task[None] | None = None
        self.stats = messages.SchedulerStats()
        self.dead = False

    async def start(self) -> None:
        """Waits for the engine core."""
        await self._input.recv_multipart()
        self._task = asyncio.create_task(self._receive())

    async def add(self, prompt: Prompt, pooling: bool) -> None:
        """Sends a prompt, once for each of its `n`."""
        parent_id = f"{prompt.external_id}-{uuid.uuid4().hex[:8]}"
        for index in range(prompt.n):
            child = Child(prompt, index, f"{index}_{parent_id}" if prompt.n > 1 else parent_id)
            prompt.children.append(child)
            self._children[child.id] = child
        for child in prompt.children:
            await self._send(messages.ADD, request(prompt, child.id, pooling))

    async def abort(self, prompts: list[Prompt]) -> None:
        """Tells the engine to forget whoever has not ended."""
        children = [child for prompt in prompts for child in prompt.children if child.id in self._children]
        for child in children:
            del self._children[child.id]
        if children and not self.dead:
            await self._send(messages.ABORT, [child.id for child in children])

    async def call(self, method: str) -> None:
        """Calls a utility of the engine core; nobody waits for its answer."""
        await self._send(messages.UTILITY, [0, 0, method, []])

    def die(self) -> None:
        """The engine core is gone, and every request that it had."""
        self.dead = True
        for child in self._children.values():
            child.prompt.die()

    async def _send(self, kind: bytes, payload: Any) -> None:
        if self.dead:
            raise EngineDead
        await self._input.send_multipart((IDENTITY, kind, *self._encoder.encode(payload)), copy=False)

    async def _receive(self) -> None:
        decode = msgspec.msgpack.Decoder(messages.Outputs).decode
        while True:
            frames = await self._output.recv_multipart(copy=False)
            if len(frames) == 1 and bytes(frames[0].buffer) == messages.ENGINE_CORE_DEAD:
                self.die()
                return
            outputs = decode(frames[0].buffer)
            if outputs.scheduler_stats:
                self.stats = outputs.scheduler_stats
            # Long batches let other work in between, as vLLM's output handler does.
            for start in range(0, len(outputs.outputs), CHUNK_OUTPUTS):
                if start:
                    await asyncio.sleep(0)
                stopped = [
                    child.id
                    for output in outputs.outputs[start : start + CHUNK_OUTPUTS]
                    if (child := self._process(output, outputs.timestamp))
                ]
                if stopped:
                    await self._send(messages.ABORT, stopped)

    def _process(self, output: messages.Output, at: float) -> Child | None:
        """Takes one output over; returns the child when a stop string ended it before the engine did."""
        child = self._children.get(output.request_id)
        if child is None:
            return None
        prompt = child.prompt
        delta = prompt.delta(child.index)
        if output.prefill_stats:
            prompt.cached = output.prefill_stats.num_cached_tokens
        taken, text, stopped = 0, "", None
        for token in output.new_token_ids:
            piece = token_text(token)
            text, taken = text + piece, taken + 1
            child.tail = (child.tail + piece)[-256:]
            if stopped := next((stop for stop in prompt.stop if child.tail.endswith(stop)), None):
                text = text[: -len(stopped)] if len(stopped) <= len(text) else ""
                break
        child.steps.append((at, taken))
        delta.text += text
        delta.tokens += taken
        if stopped:
            child.finish, delta.stop_reason = "stop", stopped
        elif output.finish_reason is not None:
            child.finish, delta.stop_reason = FINISH_NAMES[output.finish_reason], output.stop_reason
        delta.finish = child.finish
        if child.finish:
            del self._children[child.id]
        return child if stopped and output.finish_reason is None else None
